// SPDX-License-Identifier: Apache-2.0

// What hooks in goroutine code can break: stacks that are nearly used up, that
// grow, are copied and scanned; preemption, profiling and other signals at any
// instruction; new threads and processes; tracebacks. Prints one line for each
// part. With an argument, a child of itself.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// dive makes calls at every depth of a new stack, in steps of one small frame, so that some are made where hardly
// anything is left before the stack would have to grow.
//
//go:noinline
func dive(depth, fd int, b []byte) int {
	var pad [1]uintptr
	pad[0] = uintptr(depth)
	n, err := syscall.Pwrite(fd, b, int64(depth&63))
	must(err)
	if depth > 0 {
		n += dive(depth-1, fd, b)
	}
	_, _, e := syscall.RawSyscall(syscall.SYS_LSEEK, uintptr(fd), pad[0]&63, io.SeekStart)
	if e != 0 {
		panic(e)
	}
	return n
}

// wide is the same with larger frames: other distances from the limit.
//
//go:noinline
func wide(depth, fd int, b []byte) int {
	var pad [13]uintptr
	pad[depth%13] = uintptr(depth)
	n, err := syscall.Pread(fd, b, 0)
	must(err)
	if depth > 0 {
		n += wide(depth-1, fd, b)
	}
	return n + int(pad[(depth+1)%13])
}

func stacks() string {
	f, err := os.CreateTemp(".", "stacks")
	must(err)
	defer os.Remove(f.Name())
	fd := int(f.Fd())
	_, err = f.Write(make([]byte, 128))
	must(err)
	var sum int64
	var wg sync.WaitGroup
	for i := 0; i < 600; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			b := make([]byte, 1+i%8)
			if i%2 == 0 {
				atomic.AddInt64(&sum, int64(dive(20+i%60, fd, b)))
			} else {
				atomic.AddInt64(&sum, int64(wide(20+i%60, fd, b)))
			}
		}(i)
	}
	wg.Wait()
	must(f.Close())
	return fmt.Sprint(sum, " bytes")
}

func collection() string {
	var wg sync.WaitGroup
	for i := 0; i < 50; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r, w, err := os.Pipe()
			must(err)
			for k := 0; k < 40; k++ {
				out := bytes.Repeat([]byte{byte(k)}, 100+k)
				_, err := w.Write(out)
				must(err)
				in := make([]byte, len(out))
				_, err = io.ReadFull(r, in)
				must(err)
				if !bytes.Equal(in, out) {
					panic("other bytes came out of a pipe")
				}
				if k%20 == 0 {
					runtime.GC()
				}
			}
			must(r.Close())
			must(w.Close())
		}()
	}
	wg.Wait()
	return "same bytes"
}

var sink uint64

// busy never calls anything: it can be stopped by a signal only.
func busy(stop *uint32) {
	var n uint64
	for atomic.LoadUint32(stop) == 0 {
		for i := uint64(0); i < 1000; i++ {
			n = n*31 + i
		}
	}
	atomic.AddUint64(&sink, n)
}

func web() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, io.LimitReader(strings.NewReader(strings.Repeat(r.URL.Path, 1000)), 5000))
	}))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	var wg sync.WaitGroup
	var sum int64
	for i := 0; i < 20; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			for k := 0; k < 20; k++ {
				r, err := client.Get(fmt.Sprintf("http://%s/path-%d-%d", l.Addr(), i, k))
				must(err)
				n, err := io.Copy(io.Discard, r.Body)
				must(err)
				r.Body.Close()
				atomic.AddInt64(&sum, n)
			}
		}(i)
	}
	wg.Wait()
	l.Close()
	return fmt.Sprint(sum, " bytes")
}

func programs() string {
	var wg sync.WaitGroup
	for i := 0; i < 12; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			for k := 0; k < 4; k++ {
				want := fmt.Sprintf("%d of %d", k, i)
				out, err := exec.Command("/bin/echo", want).Output()
				must(err)
				if string(out) != want+"\n" {
					panic(fmt.Sprintf("echo said %q", out))
				}
			}
			if err := exec.Command("/does/not/exist").Run(); !errors.Is(err, os.ErrNotExist) {
				panic(err)
			}
		}(i)
	}
	wg.Wait()
	return "48 echoes"
}

func signals() string {
	c := make(chan os.Signal, 1000)
	signal.Notify(c, syscall.SIGUSR1)
	for i := 0; i < 200; i++ {
		must(syscall.Kill(syscall.Getpid(), syscall.SIGUSR1))
		<-c
	}
	signal.Stop(c)
	return "200 signals"
}

func faults() string {
	n := 0
	for i := 0; i < 100; i++ {
		func() {
			defer func() {
				if recover() != nil {
					n++
				}
			}()
			var p *os.File
			must(os.WriteFile("fault", []byte("x"), 0o600))
			_ = *(*int)(nil)
			p.Close()
		}()
	}
	must(os.Remove("fault"))
	return fmt.Sprint(n, " faults")
}

func threads() string {
	var wg sync.WaitGroup
	for i := 0; i < 60; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
			f, err := os.Open("/dev/null")
			must(err)
			must(f.Close())
		}()
	}
	wg.Wait()
	return "60 threads"
}

// child runs this program again; it must end with that status and say these words.
func child(mode string, status int, words ...string) string {
	var out bytes.Buffer
	c := exec.Command("/proc/self/exe", mode)
	c.Stdout, c.Stderr = &out, &out
	c.Run()
	if c.ProcessState.ExitCode() != status {
		panic(fmt.Sprintf("%s ended with %d: %s", mode, c.ProcessState.ExitCode(), out.String()))
	}
	for _, word := range words {
		if !strings.Contains(out.String(), word) {
			panic(fmt.Sprintf("%s doesn't say %q: %s", mode, word, out.String()))
		}
	}
	return fmt.Sprint("status ", status)
}

func asChild(mode string) {
	go func() {
		for {
			os.Stat("/")
		}
	}()
	time.Sleep(2 * time.Millisecond)
	switch mode {
	case "panic":
		debug.SetTraceback("all")
		panic("on purpose")
	case "crash":
		debug.SetTraceback("crash") // every thread is asked for its own traceback by a signal
		signal.Reset()
		panic("on purpose")
	case "quit":
		syscall.Kill(syscall.Getpid(), syscall.SIGQUIT)
		select {}
	case "deep":
		debug.SetMaxStack(1 << 16)
		f, err := os.Open("/dev/zero")
		must(err)
		wide(1<<20, int(f.Fd()), make([]byte, 1))
	}
}

func main() {
	if len(os.Args) > 1 {
		asChild(os.Args[1])
		return
	}
	must(syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}))
	runtime.GOMAXPROCS(6) // more than the busy ones take, on any machine
	debug.SetGCPercent(1)
	runtime.SetCPUProfileRate(1000)
	must(pprof.StartCPUProfile(io.Discard))
	var stop uint32
	for i := 0; i < 2; i++ {
		go busy(&stop)
	}
	go func() { // tracebacks of all goroutines, whatever they are doing
		buf := make([]byte, 1<<20)
		for atomic.LoadUint32(&stop) == 0 {
			runtime.Stack(buf, true)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	for _, part := range []struct {
		name string
		run  func() string
	}{
		{"stacks", stacks}, {"collection", collection}, {"web", web}, {"programs", programs}, {"signals", signals},
		{"faults", faults}, {"threads", threads}, {"c", inC}, {"plugin", inPlugin},
		{"panic", func() string { return child("panic", 2, "panic: on purpose", "goroutine 1", "main.asChild", "main.main") }},
		{"crash", func() string { return child("crash", -1, "panic: on purpose", "goroutine 1", "main.main") }},
		{"quit", func() string { return child("quit", 2, "SIGQUIT: quit", "main.main") }},
		{"deep", func() string { return child("deep", 2, "stack overflow", "main.wide") }},
	} {
		fmt.Println(part.name+":", part.run())
	}
	atomic.StoreUint32(&stop, 1)
	pprof.StopCPUProfile()
}
