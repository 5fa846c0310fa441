// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

/*
static int zero(void) { return 0; }
static void fall(volatile int *to) { *to = 1; }
*/
import "C"

var zero = C.zero()

func init() { fall = func() { C.fall((*C.int)(nil)) } }
