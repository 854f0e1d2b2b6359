package gateway

import (
	"errors"
	"io"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// forward passes the answer on whose head is in resp; n bytes of it are in
// bufs.up. complete says that the client got all of it, ok that the client is
// still there (if the worker broke off, ok is true and complete is not).
func (x *exchange) forward(u *upstream, n int) (complete, ok bool) {
	resp := &x.resp
	body := x.bufs.up[x.respHead:n]
	switch {
	case !resp.HasBody(x.req.Method):
		if len(body) > 0 {
			resp.Close = true // more than there may be: do not use the connection again
		}
		x.touch()
		x.client.head(framedNone)
		ok = x.client.flush()
		return ok, ok
	case resp.Chunked:
		x.client.head(framedUnknown)
		return x.forwardChunks(u, n)
	case resp.Length < 0:
		resp.Close = true
		x.client.head(framedUnknown)
		return x.forwardRest(u, body)
	}
	x.client.head(framedLength)
	return x.forwardLength(u, body)
}

// forwardLength passes on a body of known length.
func (x *exchange) forwardLength(u *upstream, body []byte) (complete, ok bool) {
	left := x.resp.Length
	if int64(len(body)) > left {
		body = body[:left]
		x.resp.Close = true
	}
	left -= int64(len(body))
	if left == 0 {
		x.touch() // even a small answer may find no room
		ok = x.client.data(body, true) && x.client.flush()
		return ok, ok
	}
	x.slow()
	x.touch()
	if !x.client.data(body, false) || !x.client.flush() {
		return false, false
	}
	for left > 0 {
		x.touch()
		n, err := u.Read(x.bufs.up[:min(int64(len(x.bufs.up)), left)])
		if n > 0 {
			left -= int64(n)
			x.touch()
			if !x.client.data(x.bufs.up[:n], left == 0) || !x.client.flush() {
				return false, false
			}
		}
		if err != nil && left > 0 {
			return false, !x.left()
		}
	}
	x.moved.Store(0)
	return true, true
}

// forwardRest passes on a body that ends with the worker's connection.
func (x *exchange) forwardRest(u *upstream, body []byte) (complete, ok bool) {
	x.slow()
	for {
		x.touch()
		if len(body) > 0 && !x.client.data(body, false) || !x.client.flush() {
			return false, false
		}
		x.silent()
		n, err := u.Read(x.bufs.up)
		if n == 0 && err != nil {
			if !errors.Is(err, io.EOF) {
				return false, !x.left()
			}
			break
		}
		body = x.bufs.up[:n]
	}
	ok = x.client.data(nil, true) && x.client.flush()
	return ok, ok
}

// forwardChunks passes on a chunked body with its trailers, piece by piece as it
// comes: nothing is held back.
func (x *exchange) forwardChunks(u *upstream, n int) (complete, ok bool) {
	var ch wire.Chunks
	up := x.bufs.up
	at := x.respHead
	for first := true; ; first = false {
		x.touch()
		for {
			d, trailer, k, err := ch.Next(up[at:n])
			if err != nil {
				// What came before the fault is not complete, and must not look so.
				return false, x.client.flush()
			}
			at += k
			switch {
			case !ch.Done():
				if len(d) > 0 && !x.client.data(d, false) {
					return false, false
				}
			case len(trailer) > 0:
				ok = x.client.trailers(trailer)
			default:
				ok = x.client.data(nil, true)
			}
			if ch.Done() || k == 0 {
				break
			}
		}
		if ch.Done() {
			if at < n {
				x.resp.Close = true
			}
			ok = ok && x.client.flush()
			x.moved.Store(0)
			return ok, ok
		}
		if first {
			x.slow()
		}
		x.touch()
		if !x.client.flush() {
			return false, false
		}
		x.silent()
		copy(up, up[at:n])
		n -= at
		at = 0
		if n == len(up) {
			return false, true // a line longer than any that is allowed
		}
		k, err := u.Read(up[n:])
		if k == 0 && err != nil {
			return false, !x.left()
		}
		n += k
	}
}

// silent notes that the worker may be silent for as long as it likes, but that the
// client is missed if it goes meanwhile.
func (x *exchange) silent() { x.waiting.Store(x.moved.Swap(0)) }

// slow notes the time to the answer's head, because its body takes longer: rules
// that go by latency mean the former.
func (x *exchange) slow() {
	if x.call.took == 0 {
		x.call.took = x.g.now() - x.call.sent
	}
}
