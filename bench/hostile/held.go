package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// kind is a sort of hostile connection.
type kind struct {
	name  string
	grpc  bool   // on the port of gRPC
	proto string // of TLS; empty: it has no handshake even where there is TLS
	said  []byte
	drip  []byte // said again and again
}

func kinds() []kind {
	settings := func(f *http2.Framer) { _ = f.WriteSettings() }
	metadata := func(n int, streams int, method string, data []byte) func(*http2.Framer) {
		return func(f *http2.Framer) {
			settings(f)
			for i := range streams {
				var b bytes.Buffer
				h := hpack.NewEncoder(&b)
				for _, kv := range [][2]string{
					{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", "99999999S"},
				} {
					_ = h.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
				}
				for k := range n >> 10 {
					_ = h.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d-%d", i, k), Value: strings.Repeat("x", 1000)})
				}
				block := b.Bytes()
				id := uint32(2*i + 1)
				const frame = 16 << 10
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:min(frame, len(block))], EndHeaders: len(block) <= frame})
				for block = block[min(frame, len(block)):]; len(block) > 0; block = block[min(frame, len(block)):] {
					_ = f.WriteContinuation(id, len(block) <= frame, block[:min(frame, len(block))])
				}
				for rest := data; len(rest) > 0; rest = rest[min(frame, len(rest)):] {
					_ = f.WriteData(id, false, rest[:min(frame, len(rest))])
				}
			}
		}
	}
	h2 := func(write func(*http2.Framer)) []byte {
		var b bytes.Buffer
		b.WriteString(http2.ClientPreface)
		write(http2.NewFramer(&b, nil))
		return b.Bytes()
	}
	const apply, check = "/rota.v1.Tasks/ApplyTasks", "/grpc.health.v1.Health/Check"
	begun := append([]byte{0, 0, 0x40, 0, 0}, make([]byte, 60<<10)...) // of 4 MiB
	return []kind{
		{name: "silent, HTTP", proto: "http/1.1"},
		{name: "silent, gRPC", grpc: true, proto: "h2"},
		{name: "half a handshake, HTTP", said: []byte("\x16\x03\x01\x40\x00\x01\x00\x3f\xfc"), drip: []byte{0}},
		{name: "half a handshake, gRPC", grpc: true, said: []byte("\x16\x03\x01\x40\x00\x01\x00\x3f\xfc"), drip: []byte{0}},
		{name: "slow header", proto: "http/1.1", said: []byte("GET / HTTP/1.1\r\nX: "), drip: []byte("x")},
		{name: "slow body, 60 MiB", proto: "http/1.1", said: []byte("POST /v1/tasks:apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 62914560\r\n\r\n{\"tasks\":["), drip: []byte("{},")},
		{name: "slow body, old job call", proto: "http/1.1", said: []byte("POST /start HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"), drip: []byte("1\r\n \r\n")},
		{name: "HTTP/2, a hundred bodies begun", proto: "h2", said: h2(metadata(0, 100, "/v1/tasks:apply", make([]byte, 1<<10)))},
		{name: "HTTP/2, 4 bodies of a page with 250 KiB each", proto: "h2", said: h2(metadata(0, 4, "/", make([]byte, 250<<10)))},
		{name: "HTTP/2, 4 bodies of a health check with 250 KiB each", proto: "h2", said: h2(metadata(0, 4, "/healthz", make([]byte, 250<<10)))},
		{name: "HTTP/2, 4 refused bodies with 250 KiB each", proto: "h2", said: h2(metadata(0, 4, "/v1/tasks:apply", make([]byte, 250<<10)))},
		{name: "HTTP/2, 50 health checks with 15 KiB of header each", proto: "h2", said: h2(metadata(15<<10, 50, "/healthz", nil))},
		{name: "gRPC, connected and idle", grpc: true, proto: "h2", said: h2(settings)},
		{name: "gRPC, one call with 30 KiB of metadata", grpc: true, proto: "h2", said: h2(metadata(30<<10, 1, apply, nil))},
		{name: "gRPC, 50 calls with 15 KiB of metadata and a deadline of years", grpc: true, proto: "h2", said: h2(metadata(15<<10, 50, apply, nil))},
		{name: "gRPC, one call with 1 MiB of metadata", grpc: true, proto: "h2", said: h2(metadata(1<<20, 1, apply, nil))},
		{name: "gRPC, 24 calls with 60 KiB of a message each", grpc: true, proto: "h2", said: h2(metadata(0, 24, apply, begun))},
		{name: "gRPC, 4 health checks with 60 KiB of 4 MiB each", grpc: true, proto: "h2", said: h2(metadata(0, 4, check, begun))},
		{name: "gRPC, 4 joins with 60 KiB of 4 MiB each", grpc: true, proto: "h2", said: h2(metadata(0, 4, "/rota.v1.PoolJoin/JoinWorker", begun))},
		{name: "link, byte 01 and nothing", grpc: true, proto: "h2", said: []byte{1}},
		{name: "link, byte 01 and on and on", grpc: true, proto: "h2", said: []byte{1}, drip: []byte{0}},
		{name: "link, a greeting that never ends", grpc: true, proto: "h2", said: append([]byte{1, 0, 0, 0, 0, 0, 0x40, 0}, make([]byte, 39)...), drip: []byte{1}},
	}
}

// held holds connections of each kind open while probes ask after health, and says
// what the scheduler took, and how many probes were answered.
func held(ctx context.Context, s *process, o options, tell func(row)) error {
	for _, k := range kinds() {
		if s.tls == nil && k.proto == "" {
			continue
		}
		what := fmt.Sprintf("%d × %s, %s: ", o.conns, k.name, s.name)
		if !o.run.MatchString(what) {
			continue
		}
		peak, answered, slowest, err := holdKind(ctx, s, o, k)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		tell(row{what: what + "memory", value: peak / 1e6, bar: barAll / 1e6, unit: "MB"})
		tell(row{what: what + "probes", value: answered, bar: probes, least: true})
		if o.times {
			tell(row{what: what + "slowest probe", value: float64(slowest.Milliseconds()), unit: "ms"})
		}
	}
	return nil
}

// probes is how many probes ask, half of them over HTTP and half over gRPC.
const probes = 40

// patience is how long a probe waits. On a machine that does other things, too, only
// whether there is an answer says something.
func (o options) patience() time.Duration {
	if o.times {
		return 5 * time.Second
	}
	return time.Minute
}

func holdKind(ctx context.Context, s *process, o options, k kind) (peak, answered float64, slowest time.Duration, err error) {
	if err := s.resetPeak(); err != nil {
		return 0, 0, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var next atomic.Int64
	begun := make(chan struct{}, o.conns)
	for range min(100, o.conns) { // so many handshakes at once
		group.Go(func() {
			for next.Add(1) <= int64(o.conns) && ctx.Err() == nil {
				c, err := k.open(ctx, s)
				begun <- struct{}{}
				if err == nil { // it may have been closed to make room
					group.Go(func() { k.hold(ctx, c) })
				}
			}
		})
	}
	for range o.conns {
		<-begun
	}
	for n := range probes {
		began := time.Now()
		if err := probe(ctx, s, n%2 == 0, o.patience()); err == nil {
			answered++
		}
		slowest = max(slowest, time.Since(began))
		select {
		case <-time.After(o.hold / probes):
		case <-ctx.Done():
		}
	}
	_, peak, err = s.memory()
	return peak, answered, slowest, err
}

func (k kind) open(ctx context.Context, s *process) (net.Conn, error) {
	addr := s.http
	if k.grpc {
		addr = s.grpc
	}
	if k.proto == "" {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
	return dial(ctx, s, addr, k.proto)
}

// hold says what the kind has to say until ctx ends, whether it is heard or not.
func (k kind) hold(ctx context.Context, c net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	go func() { _, _ = io.Copy(io.Discard, c) }()
	_, err := c.Write(k.said)
	for err == nil && k.drip != nil {
		select {
		case <-time.After(500 * time.Millisecond):
			_, err = c.Write(k.drip)
		case <-ctx.Done():
			return
		}
	}
	<-ctx.Done()
}

// probe asks after health once, on a connection of its own.
func probe(ctx context.Context, s *process, overHTTP bool, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if overHTTP {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: s.tls, DisableKeepAlives: true}}
		scheme := "http://"
		if s.tls != nil {
			scheme = "https://"
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+s.http+"/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	}
	creds := insecure.NewCredentials()
	if s.tls != nil {
		creds = credentials.NewTLS(s.tls)
	}
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(creds))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	return err
}
