package wire_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/rota-project/rota/gateway/internal/wire"
)

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		raw    string
		status int
	}{
		"length and chunked":       {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"chunked and length":       {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400},
		"two lengths":              {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400},
		"two equal lengths":        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400},
		"length list":              {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", 400},
		"signed length":            {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400},
		"hex length":               {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n", 400},
		"empty length":             {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
		"huge length":              {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
		"bare line feed":           {"GET / HTTP/1.1\nHost: a\n\n", 400},
		"bare line feed in header": {"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
		"carriage return in value": {"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", 400},
		"nul in value":             {"GET / HTTP/1.1\r\nHost: a\r\nX: y\x00z\r\n\r\n", 400},
		"space before colon":       {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
		"space before length":      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\n", 400},
		"two hosts":                {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		"no host":                  {"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400},
		"host with slash":          {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		"host with at":             {"GET / HTTP/1.1\r\nHost: u@b\r\n\r\n", 400},
		"host with half a bracket": {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
		"folded":                   {"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400},
		"no colon":                 {"GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", 400},
		"empty name":               {"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", 400},
		"gzip coding":              {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
		"coding in disguise":       {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
		"two codings":              {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"coding in 1.0":            {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"version 2":                {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
		"no version":               {"GET /\r\n\r\n", 400},
		"two spaces":               {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"target with space":        {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"target with tab":          {"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"target not ASCII":         {"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"bad method":               {"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"many headers":             {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", 431},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r wire.Request
			_, err := r.Parse([]byte(tc.raw))
			var we *wire.Error
			if !errors.As(err, &we) || we.Status != tc.status {
				t.Fatalf("got %v, want status %d", err, tc.status)
			}
		})
	}
}

func TestRequestIsUnderstood(t *testing.T) {
	t.Parallel()
	raw := "\r\nPOST /run/hello?x=1 HTTP/1.1\r\nhOSt: example.com:80\r\nConnection: X-Private , close\r\n" +
		"X-Private: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nContent-Length: 7\r\nExpect: 100-Continue\r\nX-MiXed:  v w \r\n\r\nbody..."
	var r wire.Request
	for cut := range len(raw) - len("body...") {
		if _, err := r.Parse([]byte(raw[:cut])); !errors.Is(err, wire.ErrIncomplete) {
			t.Fatalf("cut at %d: got %v, want incomplete", cut, err)
		}
	}
	n, err := r.Parse([]byte(raw))
	if err != nil || raw[n:] != "body..." {
		t.Fatalf("parse: %d, %v", n, err)
	}
	if string(r.Method) != "POST" || string(r.Target) != "/run/hello?x=1" || string(r.Host) != "example.com:80" ||
		r.Length != 7 || !r.Close || !r.Continue || !r.Trailers {
		t.Fatalf("understood %+v", r)
	}
	var kept []string
	for _, f := range r.Fields {
		if !f.Drop {
			kept = append(kept, string(f.Name)+"="+string(f.Value))
		}
	}
	if got, want := strings.Join(kept, " "), "hOSt=example.com:80 Content-Length=7 Expect=100-Continue X-MiXed=v w"; got != want {
		t.Fatalf("kept %q, want %q", got, want)
	}
}

func TestResponses(t *testing.T) {
	t.Parallel()
	var r wire.Response
	for _, raw := range []string{
		"HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1  200\r\n\r\n", "nonsense\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 099 no\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1,\r\n\r\n",
	} {
		if _, err := r.Parse([]byte(raw)); err == nil || errors.Is(err, wire.ErrIncomplete) {
			t.Errorf("%q: got %v, want a refusal", raw, err)
		}
	}
	if _, err := r.Parse([]byte("HTTP/1.1 204\r\nX: y\r\n\r\n")); err != nil || r.Status != 204 || r.HasBody([]byte("GET")) {
		t.Errorf("204 without a reason: %v, %+v", err, r)
	}
	for raw, want := range map[string]wire.Head{
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": {Length: -1, Chunked: true},
		"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n":          {Length: 7},
		"HTTP/1.1 200 OK\r\nContent-Length: 7,7 , 7\r\n\r\n":                         {Length: 7},
	} {
		if _, err := r.Parse([]byte(raw)); err != nil || r.Length != want.Length || r.Chunked != want.Chunked || !r.Close {
			t.Errorf("%q: %v, %+v", raw, err, r.Head)
		}
	}
	if _, err := r.Parse([]byte("HTTP/1.0 200 Fine by me\r\n\r\n")); err != nil || !r.Close || string(r.Reason) != "Fine by me" {
		t.Errorf("1.0: %v, %+v", err, r)
	}
}

// readAll decodes a chunked body that arrives in pieces of size step.
func readAll(raw []byte, step int) (data, trailer []byte, rest int, err error) {
	var c wire.Chunks
	at, end := 0, 0
	for !c.Done() {
		d, tr, n, err := c.Next(raw[at:end])
		if err != nil {
			return data, nil, 0, err
		}
		data = append(data, d...)
		trailer = append(trailer, tr...)
		at += n
		if n == 0 && !c.Done() {
			if end == len(raw) {
				return data, nil, 0, io.ErrUnexpectedEOF
			}
			end = min(end+step, len(raw))
		}
	}
	return data, trailer, len(raw) - at, nil
}

func TestChunks(t *testing.T) {
	t.Parallel()
	raw := []byte("5\r\nhello\r\n6;ext=\"a\"\r\n world\r\n0\r\nX-Sum: 11\r\n\r\nnext")
	for step := 1; step < len(raw); step++ {
		data, trailer, rest, err := readAll(raw, step)
		if err != nil || string(data) != "hello world" || string(trailer) != "X-Sum: 11\r\n" || rest < 0 || rest > 4 {
			t.Fatalf("step %d: %q, %q, %d left, %v", step, data, trailer, rest, err)
		}
	}
	for _, bad := range []string{
		"5\nhello\r\n0\r\n\r\n", "g\r\n", "\r\n", "-1\r\n", "0x5\r\n", "5 \r\nhello\r\n", "fffffffffffffffff\r\n",
		"5\r\nhelloX\r\n0\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n", "0\r\nbad name: 1\r\n\r\n", "5;\x00\r\nhello", "1\r\na\n0\r\n\r\n",
	} {
		if _, _, _, err := readAll([]byte(bad), len(bad)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: got %v, want a refusal", bad, err)
		}
	}
}

func TestAppendChunk(t *testing.T) {
	t.Parallel()
	var b []byte
	for _, n := range []int{0, 1, 15, 16, 255, 256, 5000} {
		b = wire.AppendChunk(b, bytes.Repeat([]byte("x"), n))
	}
	b = append(b, "0\r\n\r\n"...)
	data, _, _, err := readAll(b, 7)
	if err != nil || len(data) != 1+15+16+255+256+5000 {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	raw := []byte("GET /run/hello HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n")
	var r wire.Request
	if _, err := r.Parse(raw); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { r.Parse(raw) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRequest: what is accepted here is accepted by net/http too, with the same
// method, target, framing and headers.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("POST /run/hello?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-a\r\nX-A: b\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r wire.Request
		n, err := r.Parse(raw)
		if err != nil {
			return
		}
		body := raw[n:]
		// net/http refuses targets that are not URLs; those are the gateway's router's to refuse.
		if len(r.Target) == 0 || r.Target[0] != '/' || string(r.Method) == "PRI" {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			if strings.Contains(err.Error(), "invalid URL escape") || strings.Contains(err.Error(), "parse") ||
				strings.Contains(err.Error(), "malformed Host") {
				return
			}
			t.Fatalf("accepted what net/http refuses (%v): %q", err, raw)
		}
		if req.Method != string(r.Method) || req.RequestURI != string(r.Target) {
			t.Fatalf("request line: %s %s, net/http %s %s", r.Method, r.Target, req.Method, req.RequestURI)
		}
		if chunked := len(req.TransferEncoding) > 0; chunked != r.Chunked {
			t.Fatalf("chunked %v, net/http %v: %q", r.Chunked, chunked, raw)
		}
		if !r.Chunked && max(r.Length, 0) != max(req.ContentLength, 0) {
			t.Fatalf("length %d, net/http %d: %q", r.Length, req.ContentLength, raw)
		}
		want, werr := io.ReadAll(req.Body)
		if r.Chunked {
			got, _, _, err := readAll(body, max(len(body), 1))
			if err == nil && werr == nil && !bytes.Equal(got, want) {
				t.Fatalf("body %q, net/http %q", got, want)
			}
			if err == nil && werr != nil {
				t.Fatalf("chunked body accepted that net/http refuses (%v): %q", werr, raw)
			}
		}
	})
}

// FuzzResponse: a response head that is accepted frames its body as net/http does.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.0 204 No Content\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r wire.Response
		if _, err := r.Parse(raw); err != nil || r.Status < 200 {
			return
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			t.Fatalf("accepted what net/http refuses (%v): %q", err, raw)
		}
		if resp.StatusCode != r.Status {
			t.Fatalf("status %d, net/http %d", r.Status, resp.StatusCode)
		}
		if r.HasBody([]byte("GET")) && (len(resp.TransferEncoding) > 0) != r.Chunked {
			t.Fatalf("chunked %v, net/http %v: %q", r.Chunked, resp.TransferEncoding, raw)
		}
		if r.HasBody([]byte("GET")) && !r.Chunked && resp.ContentLength != r.Length {
			t.Fatalf("length %d, net/http %d: %q", r.Length, resp.ContentLength, raw)
		}
	})
}

// FuzzChunks: a chunked body that is accepted is the one that net/http reads,
// however it is cut up.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), 3)
	f.Add([]byte("1;a=b\r\nx\r\n0\r\nX-A: b\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		step = max(step%64, 1)
		got, _, rest, err := readAll(raw, step)
		if err != nil {
			return
		}
		_ = rest
		want, werr := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(raw)))
		if werr != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q: %q, net/http %q, %v", raw, got, want, werr)
		}
	})
}

// FuzzList: a header list that is accepted is, written as HTTP/1, the same
// request: nothing in it becomes another line, another length or another host.
func FuzzList(f *testing.F) {
	f.Add([]byte(":method\x01GET\x01:scheme\x01http\x01:path\x01/run/f\x01:authority\x01a\x01cookie\x01a=1\x01cookie\x01b=2"))
	f.Add([]byte(":method\x01POST\x01:scheme\x01http\x01:path\x01/\x01host\x01a\x01content-length\x015\x01te\x01trailers\x01expect\x01100-continue"))
	f.Add([]byte(":method\x010\x01:scheme\x01http\x01:path\x01/\x01:authority\x010\x01cookie\x01\x01cookie\x01\x01cookie\x01a=b\x01cookie\x01"))
	f.Add([]byte(":method\x01GET\x01:scheme\x01http\x01:path\x01/x HTTP/1.1\r\nx: y\x01:authority\x01a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r wire.Request
		r.Begin()
		parts := bytes.Split(raw, []byte{1})
		for i := 0; i+1 < len(parts); i += 2 {
			if r.Add(parts[i], parts[i+1]) != nil {
				return
			}
		}
		if r.End() != nil || string(r.Method) == "CONNECT" {
			return
		}
		text := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.Target, r.Host)
		var kept []wire.Field
		for _, fd := range r.Fields {
			if !fd.Drop && fd.Kind != wire.Host {
				text = fmt.Appendf(text, "%s: %s\r\n", fd.Name, fd.Value)
				kept = append(kept, fd)
			}
		}
		text = append(text, "\r\n"...)
		var h wire.Request
		n, err := h.Parse(text)
		if err != nil || n != len(text) {
			t.Fatalf("%q is not a request: %v", text, err)
		}
		if !bytes.Equal(h.Method, r.Method) || !bytes.Equal(h.Target, r.Target) || !bytes.Equal(h.Host, r.Host) || h.Length != r.Length ||
			h.Chunked || h.Close || len(h.Fields) != len(kept)+1 || h.Continue != r.Continue {
			t.Fatalf("%q became %+v, was %+v", text, h, r)
		}
		for i, fd := range kept {
			if g := h.Fields[i+1]; !bytes.Equal(g.Name, fd.Name) || !bytes.Equal(g.Value, fd.Value) || g.Kind != fd.Kind || g.Drop {
				t.Fatalf("%q: header %d became %+v, was %+v", text, i, g, fd)
			}
		}
	})
}

// Crumbs cost what they weigh, however many there are: they are copied once.
func TestCookieCrumbsAreCheap(t *testing.T) {
	head := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}}
	for range wire.MaxFields {
		head = append(head, [2]string{"cookie", "a=b"})
	}
	var r wire.Request
	allocs := testing.AllocsPerRun(10, func() {
		r.Begin()
		for _, f := range head {
			if err := r.Add([]byte(f[0]), []byte(f[1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.End(); err != nil {
			t.Fatal(err)
		}
	})
	if most := float64(2*len(head) + 20); allocs > most { // two for each header are this test's
		t.Errorf("%v allocations for %d crumbs", allocs, wire.MaxFields)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"": true, "a": true, "a.example": true, "a.": true, "a:80": true, "a:": true, "127.0.0.1:9080": true, "[::1]": true, "[::1]:80": true, "a_b~c%41": true,
		"[::1": false, "::1": false, "::1]": false, "[::1]x": false, "[::1]:x": false, "[]": false, "[a]": false, "[127.0.0.1]": false,
		"[::1]]": false, "a:80:80": false, "a:b": false, "a:-1": false, "a:123456": false, ":80": false, "a]": false, "[fe80::1%25eth0]": false,
		"a b": false, "a/b": false, "a@b": false, "a#b": false, "a?b": false, "a\\b": false, "\u00e9": false,
	} {
		if got := wire.IsHost([]byte(host)); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}

// Whoever takes '_' for '-' must not read a header that the gateway has not
// looked at.
func TestAliasesAreNotPassedOn(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"X_Forwarded_For", "x-forwarded_for", "X_Forwarded_Host", "X_Forwarded_Proto", "X_REAL_IP", "Content_Length", "Transfer_Encoding",
		"Rota_Generation", "Proxy_Authorization", "Proxy_Connection", "Keep_Alive",
	} {
		var r wire.Request
		if _, err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\n" + name + ": 5\r\n\r\n")); err != nil || !r.Fields[1].Drop {
			t.Errorf("HTTP/1 passes %s on (%v)", name, err)
		}
		r.Begin()
		if err := r.Add([]byte(strings.ToLower(name)), []byte("5")); err != nil || !r.Fields[0].Drop {
			t.Errorf("HTTP/2 passes %s on (%v)", name, err)
		}
		if f := wire.NewField([]byte(name), []byte("5")); !f.Drop {
			t.Errorf("net/http passes %s on", name)
		}
	}
	for _, name := range []string{"X_Custom", "_", strings.Repeat("x_", 100)} {
		if f := wire.NewField([]byte(name), []byte("5")); f.Drop {
			t.Errorf("%s is not passed on", name)
		}
	}
}

func TestWhatMayNotBeATrailer(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "AUTHORIZATION", "Proxy-Authorization", "Cookie", "Set-Cookie", "Host", "Content-Length", "Transfer-Encoding", "Connection",
		"TE", "Trailer", "Upgrade", "Expect", "Range", "If-Match", "If-None-Match", "Content-Encoding", "Content-Range", "Cache-Control",
		"X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "Rota-Generation", "Idempotency-Key", "Max-Forwards", "Via", "Date",
		"WWW-Authenticate", "Origin", "X-Api-Key", "Location", "If_Match", "Content_Length",
	} {
		raw := "0\r\n" + name + ": x\r\n\r\n"
		if _, _, _, err := readAll([]byte(raw), len(raw)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("HTTP/1 takes %s (%v)", name, err)
		}
		if _, err := wire.AppendTrailer(nil, []byte(strings.ToLower(name)), []byte("x")); err == nil {
			t.Errorf("HTTP/2 takes %s", name)
		}
	}
	for _, name := range []string{"Grpc-Status", "grpc-message", "X-Sum", "Digest", "Content-Digest", "ETag", "Server-Timing", strings.Repeat("x", 100)} {
		raw := "0\r\n" + name + ": x\r\n\r\n"
		if _, _, _, err := readAll([]byte(raw), len(raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
