// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

/*
static int zero(void) { return 0; }
*/
import "C"

var zero = C.zero()
