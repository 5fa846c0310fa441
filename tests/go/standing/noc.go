// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package main

//go:noinline
func stands(n int) int {
	for s := 0; ; s += n {
		if s == 1 { // stands
			return s
		}
	}
}
