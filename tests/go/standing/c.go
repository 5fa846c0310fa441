// SPDX-License-Identifier: Apache-2.0

package main

// #include <unistd.h>
// static int c_stands(int n) { pause(); return n; }
import "C"

//go:noinline
func stands(n int) int {
	return int(C.c_stands(C.int(n))) // stands
}
