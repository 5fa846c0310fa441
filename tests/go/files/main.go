// SPDX-License-Identifier: Apache-2.0

// Calls on files and programs whose number and order are always the same.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	runtime.GOMAXPROCS(1)
	_, err := user.Current()
	must(err)
	must(os.MkdirAll("d/e", 0o755))
	for i := 0; i < 20; i++ {
		name := filepath.Join("d", fmt.Sprint("file", i))
		must(os.WriteFile(name, bytes.Repeat([]byte{'x'}, 1000*i), 0o600))
		data, err := os.ReadFile(name)
		must(err)
		if len(data) != 1000*i {
			must(io.ErrUnexpectedEOF)
		}
		f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0)
		must(err)
		_, err = f.WriteString("more")
		must(err)
		_, err = f.Seek(2, io.SeekStart)
		must(err)
		_, err = f.ReadAt(make([]byte, 3), 1)
		if i > 0 {
			must(err)
		}
		must(f.Truncate(7))
		must(f.Close())
		must(os.Chmod(name, 0o640))
		must(os.Rename(name, name+"-new"))
		must(os.Symlink(name+"-new", name))
		_, err = os.Readlink(name)
		must(err)
		_, err = os.Stat(name + "-missing")
		if !os.IsNotExist(err) {
			must(fmt.Errorf("found what isn't there"))
		}
		must(os.Remove(name))
	}
	for i := 0; i < 5; i++ {
		out, err := exec.Command("/bin/echo", "echo", fmt.Sprint(i)).Output()
		must(err)
		if string(out) != fmt.Sprintf("echo %d\n", i) {
			must(fmt.Errorf("echo said %q", out))
		}
	}
	entries, err := os.ReadDir("d")
	must(err)
	fmt.Println(len(entries), "entries")
	must(os.RemoveAll("d"))
}
