package tasklog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rota-project/rota"
)

// errNone says that nothing is kept of what was asked for.
var errNone = errors.New("no log is kept")

// From says where a reader begins.
type From struct {
	// Previous is the run before the current one, and nothing else.
	Previous bool
	// Tail is how many last lines of the run are wanted; negative: all.
	Tail int
	// Source and Offset go on where another reader ended, if the log is still the one
	// that Source names.
	Source string
	Offset int64
	// Follow goes on with what is written from now on, until the worker has the
	// instance no more.
	Follow bool
}

// Piece is a part of a log.
type Piece struct {
	Source     string
	Generation rota.Generation
	Run        uint64
	Stream     Stream
	Offset     int64 // of the first byte of Data
	Missed     int64 // bytes before this piece that are gone
	Time       time.Time
	Data       []byte // whole characters, if those were written
}

// Reader reads the log of an instance. It is for one goroutine.
type Reader struct {
	k      *Keeper
	e      *entry
	only   *Run // nil: every run
	want   int64
	follow bool
}

// Reader returns one of an instance's log. Its errors are errNone and *rota.FieldError.
func (k *Keeper) Reader(i rota.Instance, f From) (*Reader, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[i]
	if e == nil {
		return nil, fmt.Errorf("%w of %s: it has not run here, or not recently", errNone, i)
	}
	r := &Reader{k: k, e: e, follow: f.Follow}
	run := e.current
	if f.Previous {
		if run = e.previous; run == nil {
			return nil, fmt.Errorf("%w of an earlier run of %s", errNone, i)
		}
		r.only, r.follow = run, false
	}
	switch {
	case f.Source == e.source && f.Offset > e.next:
		return nil, &rota.FieldError{Field: "offset", Value: f.Offset, Want: fmt.Sprintf("at most %d, the end of the log", e.next)}
	case f.Source == e.source:
		r.want = f.Offset
	case f.Tail >= 0:
		r.want = run.tail(f.Tail)
	default:
		r.want = run.start
	}
	return r, nil
}

// tail is the offset of the last n lines, or where the run begins.
func (r *Run) tail(n int) int64 {
	if len(r.records) == 0 {
		return r.start
	}
	last := r.records[len(r.records)-1]
	end := last.offset + int64(len(last.data))
	if n == 0 {
		return end
	}
	for _, l := range slices.Backward(r.records) {
		for at := len(l.data); ; {
			at = bytes.LastIndexByte(l.data[:at], '\n')
			if at < 0 {
				break
			}
			offset := l.offset + int64(at) + 1
			if offset == end {
				continue // it ends the last line
			}
			if n--; n == 0 {
				return offset
			}
		}
	}
	return r.start
}

// At is where the reader is: a piece without data.
func (r *Reader) At() Piece {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	run := r.e.current
	if r.only != nil {
		run = r.only
	} else if p := r.e.previous; p != nil && r.want < run.start {
		run = p
	}
	return Piece{Source: r.e.source, Generation: run.generation, Run: run.number, Offset: r.want, Time: time.Now()}
}

// Next returns the next piece, or io.EOF at the end.
func (r *Reader) Next(ctx context.Context) (Piece, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Piece{}, err
		}
		p, news, err := r.next()
		if news == nil {
			return p, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return Piece{}, ctx.Err()
		}
	}
}

// next is Next, but answers a channel if there is to be waited.
func (r *Reader) next() (Piece, <-chan struct{}, error) {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	e := r.e
	for _, run := range []*Run{e.previous, e.current} {
		if run == nil || r.only != nil && run != r.only {
			continue
		}
		n, found := slices.BinarySearchFunc(run.records, r.want, func(l record, want int64) int {
			if l.offset+int64(len(l.data)) <= want {
				return -1
			}
			return 1
		})
		if found || n == len(run.records) {
			continue
		}
		l := run.records[n]
		skip := max(0, r.want-l.offset)
		p := Piece{
			Source: e.source, Generation: run.generation, Run: run.number, Stream: l.stream, Offset: l.offset + skip,
			Missed: max(0, l.offset-r.want), Time: time.UnixMicro(l.micros), Data: bytes.Clone(l.data[skip:]),
		}
		r.want = p.Offset + int64(len(p.Data))
		return p, nil, nil
	}
	if r.follow && e.leaving == nil && r.k.entries[e.instance] == e {
		return Piece{}, e.wait(), nil
	}
	end := e.next
	if r.only != nil && r.only == e.previous {
		end = e.current.start
	}
	if r.only != nil && r.only != e.previous && r.only != e.current {
		return Piece{}, nil, io.EOF // it was dropped meanwhile
	}
	if missed := end - r.want; missed > 0 {
		r.want = end
		return Piece{Source: e.source, Generation: e.current.generation, Run: e.current.number, Offset: end, Missed: missed, Time: time.Now()}, nil, nil
	}
	return Piece{}, nil, io.EOF
}
