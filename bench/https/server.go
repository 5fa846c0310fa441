// SPDX-License-Identifier: Apache-2.0

// An HTTPS server of Go's own TLS: server PORT CERT KEY. Answers everything with 1 KiB.
package main

import (
	"bytes"
	"log"
	"net/http"
	"os"
)

func main() {
	body := bytes.Repeat([]byte("x"), 1024)
	answer := func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }
	log.Fatal(http.ListenAndServeTLS("127.0.0.1:"+os.Args[1], os.Args[2], os.Args[3], http.HandlerFunc(answer)))
}
