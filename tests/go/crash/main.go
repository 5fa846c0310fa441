// SPDX-License-Identifier: Apache-2.0

// Go programs that end as their first argument says.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var fall func() // in C; nil: there is none

func main() {
	if len(os.Args) > 2 { // "wait": until it is told to go on
		fmt.Println("ready")
		os.Stdin.Read(make([]byte, 1))
	}
	fmt.Println("begins")
	switch os.Args[1] {
	case "panic":
		panic("on purpose")
	case "nil":
		var p *int
		*p = 1
	case "goroutine":
		go func() { panic("in a goroutine") }()
		select {}
	case "sent": // its runtime gives up in the signal's handler, on another stack
		syscall.Kill(syscall.Getpid(), syscall.SIGSEGV)
		select {}
	case "c":
		fall()
	case "exit2":
		os.Exit(2)
	case "exit3":
		os.Exit(3)
	case "recover":
		func() {
			defer func() { fmt.Println(recover()) }()
			var p *int
			*p = 1
		}()
	case "notify":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTRAP)
		syscall.Kill(syscall.Getpid(), syscall.SIGTRAP)
		fmt.Println(<-c)
	}
	fmt.Println("lives")
}
