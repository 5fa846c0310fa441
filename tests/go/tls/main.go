// SPDX-License-Identifier: Apache-2.0

// Streams over crypto/tls whose truth the program knows itself: of each direction of each connection, at both ends, it
// prints how many bytes its user has read or written, with their SHA-256.
//
//	tls streams CONNECTIONS EACH_KIB [tls12] [panics] [profile]
//	                     server and clients in one process: echoes in pieces of all sizes, read into buffers on the heap
//	                     and on stacks that grow and shrink. panics: out of Read, recovered by who called it. profile:
//	                     samples and tracebacks of all goroutines meanwhile
//	tls mapped           writes memory that isn't Go's: some that stays, and some that is taken away inside of Write, once it
//	                     was encrypted, as another goroutine may do
//	tls blocked          says "writing" when it waits inside of Write, as nobody reads; at a line on standard input it is read,
//	                     and 5 bytes more are written; ends with standard input
//	tls serve            HTTPS with both versions of HTTP; prints its port; ends with standard input
//	tls get URL REQUESTS posts; every second client with HTTP/1.1; "ok N" if all answers were right
package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"hash"
	"io"
	"math/big"
	random "math/rand"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var say sync.Mutex

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	must(err)
	return n
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// One direction of a connection, as its user sees it.
type stream struct {
	hash hash.Hash
	size int
}

func (s *stream) add(b []byte) {
	s.hash.Write(b)
	s.size += len(b)
}

type end struct {
	*tls.Conn
	in, out stream
}

func newEnd(c *tls.Conn) *end {
	return &end{c, stream{hash: sha256.New()}, stream{hash: sha256.New()}}
}

func (e *end) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	e.in.add(b[:n])
	return n, err
}

func (e *end) Write(b []byte) (int, error) {
	n, err := e.Conn.Write(b)
	e.out.add(b[:n])
	return n, err
}

func (e *end) finish() {
	e.Close()
	say.Lock()
	defer say.Unlock()
	fmt.Printf("%s %s in %d %x out %d %x\n", e.LocalAddr(), e.RemoteAddr(), e.in.size, e.in.hash.Sum(nil), e.out.size, e.out.hash.Sum(nil))
}

// Makes the stack larger; the garbage collector makes it smaller again while nobody needs it.
//
//go:noinline
func deep(n int) int {
	var space [128]byte
	space[n%128] = 1
	if n == 0 {
		return int(space[0])
	}
	return deep(n-1) + int(space[n%128])
}

// Reads into its own stack.
//
//go:noinline
func readOnStack(e *end) (int, error) {
	var b [300]byte
	n, err := e.Conn.Read(b[:])
	e.in.add(append([]byte(nil), b[:n]...))
	return n, err
}

// A connection that panics when it is read from for the n-th time.
type bomb struct {
	net.Conn
	n int
}

func (b *bomb) Read(p []byte) (int, error) {
	if b.n--; b.n == 0 {
		panic(b)
	}
	return b.Conn.Read(p)
}

func echo(c *tls.Conn) {
	e := newEnd(c)
	defer e.finish()
	b := make([]byte, 1+random.Intn(20000))
	for {
		n, err := e.Read(b)
		if n > 0 {
			if _, err := e.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func client(address string, id, size int, panics bool) {
	plain, err := net.Dial("tcp", address)
	must(err)
	transport := plain
	if panics && id%4 == 0 {
		transport = &bomb{plain, 8 + id%9}
	}
	e := newEnd(tls.Client(transport, &tls.Config{InsecureSkipVerify: true}))
	must(e.Handshake())
	done := make(chan bool)
	go func() { // its stack is small, and grows inside of Read
		defer close(done)
		defer plain.Close()
		defer func() { recover() }()
		for i := 1; e.in.size < size; i++ {
			var err error
			if id%3 == 0 {
				_, err = readOnStack(e)
			} else {
				_, err = e.Read(make([]byte, 1+(id*7919+i*104729)%9000))
			}
			if err != nil {
				return
			}
			if i%4 == 0 {
				deep(10 + i%200)
			}
		}
	}()
	source := random.New(random.NewSource(int64(id)))
	for e.out.size < size {
		b := make([]byte, 1+source.Intn(min(40000, size-e.out.size)))
		source.Read(b)
		if _, err := e.Write(b); err != nil {
			break
		}
		if id%5 == 0 {
			deep(source.Intn(500))
		}
	}
	<-done
	e.finish()
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func streams(connections, size int, options []string) {
	has := map[string]bool{}
	for _, o := range options {
		has[o] = true
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate()}}
	if has["tls12"] {
		config.MaxVersion = tls.VersionTLS12
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	must(err)
	var all sync.WaitGroup
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer all.Done()
				echo(c.(*tls.Conn))
			}()
		}
	}()
	if has["profile"] {
		must(pprof.StartCPUProfile(io.Discard))
		defer pprof.StopCPUProfile()
		go func() {
			for b := make([]byte, 1<<20); ; time.Sleep(5 * time.Millisecond) {
				runtime.Stack(b, true)
			}
		}()
	}
	go func() { // stacks of those who wait become smaller
		for ; ; time.Sleep(time.Millisecond) {
			runtime.GC()
		}
	}()
	for i := 0; i < connections; i++ {
		all.Add(2)
		go func(i int) {
			defer all.Done()
			client(listener.Addr().String(), i, size, has["panics"])
		}(i)
	}
	all.Wait()
}

// A transport that takes memory away when it has passed on what was made of that. Protecting it is what unmapping does to
// who reads it, and leaves the place to nobody else.
type taker struct {
	net.Conn
	what []byte
}

func (t *taker) Write(b []byte) (int, error) {
	n, err := t.Conn.Write(b)
	if t.what != nil {
		must(syscall.Mprotect(t.what, syscall.PROT_NONE))
		t.what = nil
	}
	return n, err
}

func mapped() {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate()}})
	must(err)
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		c, err := listener.Accept()
		must(err)
		io.Copy(io.Discard, c)
	}()
	plain, err := net.Dial("tcp", listener.Addr().String())
	must(err)
	transport := &taker{plain, nil}
	c := tls.Client(transport, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	must(c.Handshake())
	for i := 0; i < 400; i++ {
		b, err := syscall.Mmap(-1, 0, 8192, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		must(err)
		copy(b, bytes.Repeat([]byte{byte('a' + i%26)}, 8000))
		if i >= 390 && i%2 == 1 {
			transport.what = b
		}
		_, err = c.Write(b[:8000])
		must(err)
	}
	c.Close()
	all.Wait()
	fmt.Println("ok", plain.LocalAddr())
}

// A transport that says when it is used for the first time after it was told to.
type teller struct {
	net.Conn
	told *sync.Once
}

func (t *teller) Write(b []byte) (int, error) {
	if t.told != nil {
		t.told.Do(func() { fmt.Println("writing") })
	}
	return t.Conn.Write(b)
}

func blocked() {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate()}})
	must(err)
	lines := bufio.NewReader(os.Stdin)
	shaken, read := make(chan bool), make(chan bool)
	go func() {
		c, err := listener.Accept()
		must(err)
		must(c.(*tls.Conn).Handshake())
		shaken <- true
		<-read
		io.Copy(io.Discard, c)
	}()
	plain, err := net.Dial("tcp", listener.Addr().String())
	must(err)
	transport := &teller{plain, nil}
	c := tls.Client(transport, &tls.Config{InsecureSkipVerify: true})
	must(c.Handshake())
	<-shaken
	transport.told = &sync.Once{}
	go func() {
		_, err := lines.ReadString('\n')
		must(err)
		read <- true
	}()
	_, err = c.Write(make([]byte, 32<<20)) // more than any socket holds
	must(err)
	_, err = c.Write([]byte("after"))
	must(err)
	fmt.Println("done")
	io.Copy(io.Discard, lines)
	c.Close()
}

func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	server := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate()}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Write(bytes.ToUpper(body))
		})}
	go server.ServeTLS(listener, "", "")
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
}

func get(url string, requests int) {
	var clients [4]*http.Client
	for i := range clients {
		clients[i] = &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: i%2 == 0, MaxIdleConnsPerHost: 8,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	}
	var all sync.WaitGroup
	turn := make(chan bool, 16)
	ok := 0
	for i := 0; i < requests; i++ {
		all.Add(1)
		turn <- true
		go func(i int) {
			defer func() { <-turn; all.Done() }()
			body := bytes.Repeat([]byte{byte('a' + i%26)}, 1+i*37%30000)
			answer, err := clients[i%len(clients)].Post(fmt.Sprintf("%s/%d", url, i), "text/plain", bytes.NewReader(body))
			must(err)
			got, err := io.ReadAll(answer.Body)
			must(err)
			answer.Body.Close()
			say.Lock()
			defer say.Unlock()
			if bytes.Equal(got, bytes.ToUpper(body)) && answer.ProtoMajor == 2-i%2 {
				ok++
			}
		}(i)
	}
	all.Wait()
	fmt.Println("ok", ok)
}

func main() {
	switch os.Args[1] {
	case "streams":
		streams(number(os.Args[2]), number(os.Args[3])*1024, os.Args[4:])
	case "mapped":
		mapped()
	case "blocked":
		blocked()
	case "serve":
		serve()
	case "get":
		get(os.Args[2], number(os.Args[3]))
	}
}
