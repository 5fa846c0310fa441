// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package main

func inC() string { return "none" }

func inPlugin() string { return "none" }
