// SPDX-License-Identifier: Apache-2.0

// A plugin that is opened by ../stress.
package main

import "os"

// WriteAndRead has the file name hold text, and gives back what it then holds.
func WriteAndRead(name, text string) (string, error) {
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		return "", err
	}
	data, err := os.ReadFile(name)
	return string(data), err
}

func main() {}
