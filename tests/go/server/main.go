// SPDX-License-Identifier: Apache-2.0

// An HTTP server on 127.0.0.1:ARG that serves the files below ./root; SIGTERM ends it with status 0.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"os/user"
	"syscall"
	"time"
)

func main() {
	if _, err := user.Current(); err != nil { // package os/user makes a dynamic program, where cgo is enabled
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := &http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: http.FileServer(http.Dir("root"))}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(ctx)
		os.Exit(0)
	}()
	if err := s.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}
