package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// patience is how long an answer is waited for.
const patience = 2 * time.Second

// try sends an input through the peer and says in a few words what came of it.
func (p *peer) try(in input) string {
	p.worker.expect(in.answer)
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close() //nolint:errcheck // it is over
	_ = c.SetDeadline(time.Now().Add(patience))
	send := in.send
	if send == "" {
		send = "GET /run/f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	}
	go func() { _, _ = io.WriteString(c, send) }()
	method, _, _ := strings.Cut(send, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	said := ""
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		said = "*waits*"
	case err != nil:
		said = "*closed*"
	default:
		said = fmt.Sprint(resp.StatusCode)
		if _, err := io.ReadAll(resp.Body); err != nil {
			said += " *cut*"
		}
		_ = resp.Body.Close()
		if in.header != "" {
			said += " [" + in.header + ": " + kind(resp.Header.Get(in.header)) + "]"
		}
	}
	heard := p.worker.heard()
	if heard == "" || in.send == "" || in.races {
		return said
	}
	what := ""
	if in.look != "" {
		what = " [nothing]"
		for _, l := range strings.Split(heard, "\r\n") {
			if !strings.HasPrefix(strings.ToLower(l), strings.ToLower(in.look)) {
				continue
			}
			l = strings.ReplaceAll(l, p.worker.addr, "the worker's address")
			if what = " [" + l + "]"; in.look == "via:" { // with a name that is never the same
				what = " [Via]"
			}
		}
	}
	return said + " →" + what
}

// kind is a value, or that there is one if it is never the same.
func kind(v string) string {
	if v == "" {
		return "none"
	}
	return "there"
}

// worker answers each request as it was told to, and keeps its head.
type worker struct {
	addr string
	ln   net.Listener

	mu     sync.Mutex
	answer string
	got    string
}

func newWorker() (*worker, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &worker{addr: ln.Addr().String(), ln: ln, answer: plain}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go w.serve(c)
		}
	}()
	return w, nil
}

func (w *worker) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // it is over
	r := bufio.NewReader(c)
	for {
		var head strings.Builder
		for {
			l, err := r.ReadString('\n')
			head.WriteString(l)
			if err != nil {
				return
			}
			if l == "\r\n" {
				break
			}
		}
		w.mu.Lock()
		w.got = head.String()
		answer := w.answer
		w.mu.Unlock()
		req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head.String()), r)))
		if err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
		}
		if _, err := io.WriteString(c, answer); err != nil || !strings.Contains(answer, "Content-Length: 2\r\n\r\n") {
			return // what comes next on it might be misread
		}
	}
}

const plain = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// expect sets how the next requests are answered.
func (w *worker) expect(answer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = ""
	if w.answer = answer; answer == "" {
		w.answer = plain
	}
}

// heard is the head of the request that has come since, if one has.
func (w *worker) heard() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got
}

func (w *worker) close() { _ = w.ln.Close() }
