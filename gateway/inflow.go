package gateway

import (
	"io"
	"sync"

	"github.com/rota-project/rota/gateway/internal/sock"
)

// inflow reads a body of net/http's so that who waits for it can be sent away and come
// back: a deadline, the only other way, would end the reading for good.
type inflow struct {
	mu      sync.Mutex
	news    sync.Cond
	body    io.Reader
	buf     []byte // from at to n it is read and not taken
	at, n   int
	err     error // after that
	reading bool
	away    bool // who waits is to leave
}

func (f *inflow) begin(body io.Reader) {
	f.news.L, f.body = &f.mu, body
}

// read returns some of the body, or io.ErrUnexpectedEOF if leave was called.
func (f *inflow) read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.at == f.n && f.err == nil && !f.away {
		if !f.reading {
			f.reading = true
			go f.fill()
		}
		f.news.Wait()
	}
	switch n := copy(p, f.buf[f.at:f.n]); {
	case f.away:
		return 0, io.ErrUnexpectedEOF
	case f.at+n < f.n:
		f.at += n
		return n, nil
	default:
		f.at, f.n = 0, 0
		return n, f.err
	}
}

// fill reads once.
func (f *inflow) fill() {
	if f.buf == nil {
		f.buf = make([]byte, sock.PieceSize)
	}
	n, err := f.body.Read(f.buf)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.n, f.err, f.reading = 0, n, err, false
	f.news.Broadcast()
}

// leave sends away who waits, or lets them wait again.
func (f *inflow) leave(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
	f.news.Broadcast()
}

// stop waits for the end of a reading that is under way, which whoever calls has cut
// short. Nobody may read after it.
func (f *inflow) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.reading {
		f.news.Wait()
	}
}
