// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

/*
#cgo LDFLAGS: -lpthread
#cgo amd64 CFLAGS: -I${SRCDIR}/../../programs/arch/x86_64
#cgo arm64 CFLAGS: -I${SRCDIR}/../../programs/arch/aarch64
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

extern int goHalf(int);

#include "raw.h"

// From C to Go and to C again, with calls on every stack on the way.
static int halves(int n)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC), sum = 0;

    while (n) {
        sum += (int)write(fd, "half", 4);
        n = goHalf(n);
    }
    raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
    return sum;
}

static void *body(void *arg)
{
    *(int *)arg = halves(*(int *)arg);
    return arg;
}

static int in_thread(int n)
{
    pthread_t t;

    if (pthread_create(&t, NULL, body, &n) != 0)
        return -1;
    pthread_join(t, NULL);
    return n;
}
*/
import "C"

import (
	"fmt"
	"os"
	"plugin"
	"sync"
	"sync/atomic"
)

//export goHalf
func goHalf(n C.int) C.int {
	_, err := os.Stat("/dev/null")
	must(err)
	return n / 2
}

func inC() string {
	var wg sync.WaitGroup
	var sum int64
	for i := 0; i < 40; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			for k := 0; k < 10; k++ {
				if i%4 == 0 {
					atomic.AddInt64(&sum, int64(C.in_thread(1000)))
				} else {
					atomic.AddInt64(&sum, int64(C.halves(1000)))
				}
			}
		}(i)
	}
	wg.Wait()
	return fmt.Sprint(sum, " bytes")
}

func inPlugin() string {
	path := os.Getenv("PLUGIN")
	if path == "" {
		return "none"
	}
	p, err := plugin.Open(path)
	must(err)
	f, err := p.Lookup("WriteAndRead")
	must(err)
	text, err := f.(func(string, string) (string, error))("from-plugin", "written by a plugin")
	must(err)
	must(os.Remove("from-plugin"))
	return text
}
