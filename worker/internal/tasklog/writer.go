package tasklog

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota/internal/text"
)

// writer takes one stream of a run.
type writer struct {
	run    *Run
	stream Stream

	mu   sync.Mutex
	part []byte // of a character that may go on
}

// Writer takes a stream of the run, from several goroutines if need be. It never fails,
// and never waits. Close hands on the part of a last character that was cut.
func (r *Run) Writer(s Stream) interface {
	Write(p []byte) (int, error)
	Close() error
} {
	return &writer{run: r, stream: s}
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data := p
	if len(w.part) > 0 {
		data = slices.Concat(w.part, p)
		w.part = nil
	}
	n := len(data) - unfinished(data)
	if n > 0 {
		w.run.append(w.stream, data[:n], time.Now().UnixMicro())
	}
	if n < len(data) {
		w.part = bytes.Clone(data[n:])
	}
	return len(p), nil
}

func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.part) > 0 {
		w.run.append(w.stream, w.part, time.Now().UnixMicro())
		w.part = nil
	}
	return nil
}

// Last is the end of what the run wrote, at most so many bytes of it and whole lines if
// there are any: of its standard error, or, if that is empty, of all that it wrote.
func (r *Run) Last(most int) string {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	only := func(s Stream) bool { return s == Stderr }
	b, cut := r.end(most, only)
	if len(bytes.TrimSpace(b)) == 0 {
		b, cut = r.end(most, func(Stream) bool { return true })
	}
	return text.Last(b, most, cut)
}

// end is the end of some streams, no longer than most, and whether there was more.
func (r *Run) end(most int, of func(Stream) bool) (b []byte, cut bool) {
	first, n := len(r.records), 0
	for first > 0 && n < most {
		first--
		if of(r.records[first].stream) {
			n += len(r.records[first].data)
		}
	}
	for _, l := range r.records[first:] {
		if of(l.stream) {
			b = append(b, l.data...)
		}
	}
	return b[max(0, len(b)-most):], len(b) > most
}
