// SPDX-License-Identifier: Apache-2.0

// client URL CONNECTIONS EACH: asks for URL?N-M over as many connections, which are kept. net/http reads and writes a
// connection in different goroutines, so often in different threads.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
)

func main() {
	connections, err := strconv.Atoi(os.Args[2])
	each, err2 := strconv.Atoi(os.Args[3])
	if err != nil || err2 != nil {
		panic("numbers, please")
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	var all sync.WaitGroup
	for i := 0; i < connections; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			for k := 0; k < each; k++ {
				answer, err := client.Get(fmt.Sprintf("%s?%d-%d", os.Args[1], i, k))
				if err != nil {
					panic(err)
				}
				if _, err := io.Copy(io.Discard, answer.Body); err != nil {
					panic(err)
				}
				answer.Body.Close()
			}
		}(i)
	}
	all.Wait()
}
