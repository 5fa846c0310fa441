// SPDX-License-Identifier: Apache-2.0

// Stands in one goroutine at a place that is known: in C code if there is cgo, else in a loop. Or panics there.
package main

import (
	"fmt"
	"os"
)

type node struct {
	next *node
	v    int
}

//go:noinline
func fails(n *node) int {
	return n.next.v // fails
}

//go:noinline
func inner(n int) int {
	fmt.Println("ready")
	return stands(n) + 1 // inner
}

func main() {
	done := make(chan int)
	if len(os.Args) > 1 {
		go func() {
			done <- fails(&node{}) // panics
		}()
	} else {
		go func() {
			done <- inner(7) // goroutine
		}()
	}
	<-done
}
