package gateway

import (
	"errors"
	"fmt"
	"io"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// forward passes the answer on whose head is in resp; n bytes of it are in
// bufs.up. It returns nil if the client has got all of it, errClient if the client
// did not take it, else how the worker broke off.
func (x *exchange) forward(u *upstream.Conn, n int) error {
	resp := &x.resp
	body := x.bufs.up[x.respHead:n]
	switch {
	case !resp.HasBody(x.req.Method):
		if len(body) > 0 {
			resp.Close = true // more than there may be: do not use the connection again
		}
		x.touch(outcome.OnClient)
		x.head(framedNone)
		return taken(x.client.flush())
	case resp.Chunked:
		x.head(framedUnknown)
		return x.forwardChunks(u, n)
	case resp.Length < 0:
		resp.Close = true
		x.head(framedUnknown)
		return x.forwardRest(u, body)
	}
	x.head(framedLength)
	return x.forwardLength(u, body)
}

// taken is nil if the client has taken what it was sent.
func taken(ok bool) error {
	if ok {
		return nil
	}
	return errClient
}

// forwardLength passes on a body of known length.
func (x *exchange) forwardLength(u *upstream.Conn, body []byte) error {
	left := x.resp.Length
	if int64(len(body)) > left {
		body = body[:left]
		x.resp.Close = true
	}
	left -= int64(len(body))
	if left == 0 {
		x.touch(outcome.OnClient) // even a small answer may find no room
		return taken(x.data(body, true) && x.client.flush())
	}
	x.slow()
	x.touch(outcome.OnClient)
	if !x.data(body, false) || !x.client.flush() {
		return errClient
	}
	for left > 0 {
		n, err := x.readMore(u, x.bufs.up[:min(int64(len(x.bufs.up)), left)])
		if n > 0 {
			left -= int64(n)
			x.touch(outcome.OnClient)
			if !x.data(x.bufs.up[:n], left == 0) || !x.client.flush() {
				return errClient
			}
		}
		if err != nil && left > 0 {
			return fmt.Errorf("%w: %w", errCutOff, err)
		}
	}
	x.moving.Down.Store(outcome.OnNobody)
	return nil
}

// readMore reads more of an answer's body from the worker.
func (x *exchange) readMore(u *upstream.Conn, p []byte) (int, error) {
	x.awaitMore()
	n, err := u.Read(p)
	x.rec.Last().Read += int64(n)
	return n, err
}

// forwardRest passes on a body that ends with the worker's connection.
func (x *exchange) forwardRest(u *upstream.Conn, body []byte) error {
	x.slow()
	for {
		x.touch(outcome.OnClient)
		if len(body) > 0 && !x.data(body, false) || !x.client.flush() {
			return errClient
		}
		n, err := x.readMore(u, x.bufs.up)
		if n == 0 && err != nil {
			if !errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: %w", errCutOff, err)
			}
			break
		}
		body = x.bufs.up[:n]
	}
	return taken(x.data(nil, true) && x.client.flush())
}

// forwardChunks passes on a chunked body with its trailers, piece by piece as it
// comes: nothing is held back.
func (x *exchange) forwardChunks(u *upstream.Conn, n int) error {
	var ch wire.Chunks
	up := x.bufs.up
	at := x.respHead
	ok := true
	for first := true; ; first = false {
		x.touch(outcome.OnClient)
		for {
			d, trailer, k, err := ch.Next(up[at:n])
			if err != nil {
				// What came before the fault is not complete, and must not look so.
				if !x.client.flush() {
					return errClient
				}
				return fmt.Errorf("%w: %w", outcome.ErrAnswer, err)
			}
			at += k
			switch {
			case !ch.Done():
				if len(d) > 0 && !x.data(d, false) {
					return errClient
				}
			case len(trailer) > 0:
				ok = x.client.trailers(trailer)
			default:
				ok = x.data(nil, true)
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
			x.moving.Down.Store(outcome.OnNobody)
			return taken(ok)
		}
		if first {
			x.slow()
		}
		x.touch(outcome.OnClient)
		if !x.client.flush() {
			return errClient
		}
		copy(up, up[at:n])
		n -= at
		at = 0
		if n == len(up) {
			return fmt.Errorf("%w: a line too long", outcome.ErrAnswer)
		}
		k, err := x.readMore(u, up[n:])
		if k == 0 && err != nil {
			return fmt.Errorf("%w: %w", errCutOff, err)
		}
		n += k
	}
}

// slow notes the time to the answer's head, because its body takes longer: rules
// that go by latency mean the former.
func (x *exchange) slow() {
	if x.call.took == 0 {
		x.call.took = x.g.now() - x.call.sent
	}
}
