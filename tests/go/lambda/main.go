// SPDX-License-Identifier: Apache-2.0
// A runtime and its function, as they are compiled for the provided runtimes of AWS Lambda.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	path := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	fmt.Println("function is ready")
	for {
		answer, err := http.Get(path + "next")
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		var event struct{ N int }
		if err := json.Unmarshal(body, &event); err != nil {
			panic(err)
		}
		name := fmt.Sprintf("/tmp/work-%d", event.N)
		if err := os.WriteFile(name, []byte(strings.Repeat("x", event.N)), 0600); err != nil {
			panic(err)
		}
		id := answer.Header.Get("Lambda-Runtime-Aws-Request-Id")
		answer, err = http.Post(path+id+"/response", "application/json", strings.NewReader(fmt.Sprintf(`{"twice": %d}`, 2*event.N)))
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
}
