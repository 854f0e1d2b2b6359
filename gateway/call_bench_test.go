package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// BenchmarkCall is a call over HTTP/1 through the gateway to a worker, all three in
// this process. Client and worker allocate nothing: what is allocated is the
// gateway's.
func BenchmarkCall(b *testing.B) {
	for name, request := range map[string]string{
		"GET":          "GET /run/f HTTP/1.1\r\nHost: a\r\nUser-Agent: bench\r\n\r\n",
		"POST":         "POST /run/f HTTP/1.1\r\nHost: a\r\nUser-Agent: bench\r\nContent-Length: 1024\r\n\r\n" + string(make([]byte, 1024)),
		"POST chunked": "POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		b.Run(name, func(b *testing.B) { benchmarkCall(b, request, nil) })
	}
}

// BenchmarkTracedCall is a call whose spans are made, and sent to nobody: of none, of one
// call of a hundred, of all.
func BenchmarkTracedCall(b *testing.B) {
	for name, part := range map[string]float64{"0%": 0, "1%": 0.01, "100%": 1} {
		b.Run(name, func(b *testing.B) {
			p := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.TraceIDRatioBased(part)), sdktrace.WithBatcher(tracetest.NewNoopExporter()))
			defer p.Shutdown(context.Background())
			benchmarkCall(b, "GET /run/f HTTP/1.1\r\nHost: a\r\nUser-Agent: bench\r\n\r\n", p)
		})
	}
}

func benchmarkCall(b *testing.B, request string, spans trace.TracerProvider) {
	answer := []byte("HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 2\r\n\r\nok")
	end := []byte("\r\n\r\n")
	if body := len(request) - bytes.Index([]byte(request), end) - len(end); body > 0 {
		end = []byte(request[len(request)-2:])
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r, buf := bufio.NewReader(c), make([]byte, 16<<10)
		for n := 0; ; {
			k, err := r.Read(buf[n:])
			if err != nil {
				return
			}
			if n += k; bytes.HasSuffix(buf[:n], end) && bytes.Contains(buf[:n], []byte("\r\n\r\n")) {
				if _, err := c.Write(answer); err != nil {
					return
				}
				n = 0
			}
		}
	}()
	cfg := simple("http://" + ln.Addr().String())
	cfg.TracerProvider = spans
	_, addr := start(b, cfg)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	out, in := []byte(request), make([]byte, len(answer))
	call := func() {
		if _, err := c.Write(out); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, in); err != nil {
			b.Fatal(err)
		}
	}
	call()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		call()
	}
}
