// Package unread answers HTTP requests of whose body nothing was read, or not all.
//
// The handlers of the scheduler's HTTP side call it when they refuse a request by
// its header. It decides nothing.
package unread

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// What is small enough is passed over, to keep the connection: the next request
// costs no new one. It has so long to come, and the answer waits for it.
const (
	small     = 16 << 10
	smallTime = time.Second
)

// Close lets the answer out at once and ends the connection after it, if a body
// was sent that nobody is going to read, unless it is small. By itself the server would first wait for
// a part of the body, to be able to keep the connection. It must be called before
// the answer begins.
func Close(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 || r.ProtoMajor != 1 { // HTTP/2 ends the stream
		return
	}
	if 0 < r.ContentLength && r.ContentLength <= small {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(smallTime))
		return
	}
	// After the answer it would still read. Not every writer has deadlines: then
	// the server's own limits hold.
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	// Of a body over a limit the server reads nothing before the answer, and closes
	// in two steps after it, so that the answer outlives the reset that what is
	// still being sent earns.
	for {
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = inner.Unwrap()
	}
	_, _ = http.MaxBytesReader(w, io.NopCloser(strings.NewReader("xx")), 0).Read(make([]byte, 2))
}
