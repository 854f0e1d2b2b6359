package body

import (
	"io"
	"sync"

	"github.com/rota-project/rota/gateway/internal/sock"
)

// Inflow reads a body of net/http's so that who waits for it can be sent away and come
// back: a deadline, the only other way, would end the reading for good.
type Inflow struct {
	mu      sync.Mutex
	news    sync.Cond
	body    io.Reader
	buf     []byte // from at to n it is read and not taken
	at, n   int
	err     error // after that
	reading bool
	away    bool // who waits is to leave
}

// Begin begins to read a body.
func (f *Inflow) Begin(body io.Reader) {
	f.news.L, f.body = &f.mu, body
}

// Read returns some of the body, or io.ErrUnexpectedEOF if leave was called.
func (f *Inflow) Read(p []byte) (int, error) {
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
func (f *Inflow) fill() {
	if f.buf == nil {
		f.buf = make([]byte, sock.PieceSize)
	}
	n, err := f.body.Read(f.buf)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.n, f.err, f.reading = 0, n, err, false
	f.news.Broadcast()
}

// Leave sends away who waits, or lets them wait again.
func (f *Inflow) Leave(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
	f.news.Broadcast()
}

// Stop waits for the end of a reading that is under way, which whoever calls has cut
// short. Nobody may read after it.
func (f *Inflow) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.reading {
		f.news.Wait()
	}
}
