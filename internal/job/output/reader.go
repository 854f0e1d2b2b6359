package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/rota-project/rota"
)

// Chunk is a piece of output.
type Chunk struct {
	Stream Stream
	Offset int64 // of the first byte of Data
	Time   time.Time
	Data   []byte // valid until the next call
	// Missed is how many bytes before this chunk are gone: dropped because the
	// log was full, or refused by the disk. What is missed at the very end comes
	// as a chunk without data.
	Missed int64
}

// Reader reads a log from some offset on, one chunk at a time. It is for one
// goroutine; any number of readers may read one log.
type Reader struct {
	log    *Log
	follow bool
	want   int64 // offset of the next byte to hand out
	win    window
	start  int64 // of the segment that win reads
}

// Reader returns one that begins at offset; an offset below zero counts from
// the end. With follow, Next waits for more until the log is closed. An offset
// past the end is a *rota.FieldError if the log is closed or follow is false.
// Close it.
func (l *Log) Reader(offset int64, follow bool) (*Reader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset < 0 {
		offset = max(0, l.next+offset)
	}
	if offset > l.next && (l.closed || !follow) {
		return nil, &rota.FieldError{Field: "offset", Value: offset, Want: fmt.Sprintf("at most %d, the end of the output", l.next)}
	}
	return &Reader{log: l, follow: follow, want: offset, start: -1}, nil
}

// Close lets go of the files.
func (r *Reader) Close() error {
	if r.win.file == nil {
		return nil
	}
	err := r.win.file.Close()
	r.win.file = nil
	return err
}

// Next returns the next chunk, or io.EOF at the end.
func (r *Reader) Next(ctx context.Context) (Chunk, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Chunk{}, err
		}
		grown, err := r.advance()
		if errors.Is(err, io.EOF) {
			return r.rest()
		}
		if err != nil {
			return Chunk{}, err
		}
		if grown != nil {
			select {
			case <-grown:
			case <-ctx.Done():
			}
			continue
		}
		limit := r.win.limit
		h, data, err := r.win.record()
		if errors.Is(err, errTorn) || errors.Is(err, io.EOF) {
			// The disk lost something: go on behind it, and say so.
			r.win.buf, r.win.pos = nil, limit
			continue
		}
		if err != nil {
			return Chunk{}, err
		}
		ends := h.offset + int64(h.length)
		if ends <= r.want {
			continue
		}
		c := Chunk{Stream: h.stream, Offset: h.offset, Time: h.time(), Data: data}
		if h.stream == end {
			c.Data = nil
		}
		if skip := r.want - h.offset; skip > 0 {
			c.Data, c.Offset = data[skip:], r.want
		} else {
			c.Missed = -skip
		}
		r.want = ends
		return c, nil
	}
}

// rest is io.EOF, or first what an ended log has lost at its very end.
func (r *Reader) rest() (Chunk, error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	missed := r.log.next - r.want
	if !r.log.closed || missed <= 0 {
		return Chunk{}, io.EOF
	}
	r.want = r.log.next
	return Chunk{Offset: r.want, Time: time.Now(), Missed: missed}, nil
}

// advance puts the window on bytes that are committed and not yet read, or
// returns what to wait for, or io.EOF.
func (r *Reader) advance() (grown <-chan struct{}, err error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return r.advanceLocked()
}

func (r *Reader) advanceLocked() (grown <-chan struct{}, err error) {
	l := r.log
	at := r.segment()
	if at >= 0 {
		r.win.limit = l.segments[at].size
		if m := l.segments[at].memory; m != nil {
			r.win.file = inMemory{bytes.NewReader(m)} // it may be elsewhere since it has grown
		}
		if r.win.pos < r.win.limit {
			return nil, nil
		}
	} else if r.win.file != nil && r.win.pos < r.win.limit {
		return nil, nil // dropped while we read it: the open file still has it
	}
	next := at + 1
	if at < 0 && len(l.segments) > 0 { // not begun, or our segment is gone
		for next = len(l.segments) - 1; next > 0 && l.segments[next].start > r.want; next-- {
		}
	}
	if next == len(l.segments) {
		if l.closed || !r.follow {
			return nil, io.EOF
		}
		l.waiters++
		return l.grown, nil
	}
	f, err := l.segments[next].open()
	if l.closed && errors.Is(err, os.ErrNotExist) {
		// An ended log was dropped while it is read.
		l.segments = slices.Delete(l.segments, next, next+1)
		return r.advanceLocked()
	}
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	_ = r.Close()
	r.start = l.segments[next].start
	r.win = window{file: f, limit: l.segments[next].size, store: r.win.store}
	if r.win.limit == 0 {
		if l.closed || !r.follow {
			return nil, io.EOF
		}
		l.waiters++
		return l.grown, nil
	}
	return nil, nil
}

// inMemory is what the disk has refused, as a file.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// source is what a window reads.
type source interface {
	io.ReaderAt
	io.Closer
}

func (s *segment) open() (source, error) {
	if s.memory != nil {
		return inMemory{bytes.NewReader(s.memory)}, nil
	}
	return os.Open(s.path)
}

// segment finds the one that the window reads, or -1.
func (r *Reader) segment() int {
	if r.win.file == nil {
		return -1
	}
	for i := range r.log.segments {
		if r.log.segments[i].start == r.start {
			return i
		}
	}
	return -1
}

// window reads the records of a file up to limit, a few at a time.
type window struct {
	file  source
	limit int64
	pos   int64  // of the next record in the file
	buf   []byte // bytes from pos on
	store []byte
}

const windowSize = 2 * (headerSize + maxRecord)

// record returns the next record; its data is valid until the next call. It is
// io.EOF at the limit and errTorn where a record is not sound.
func (w *window) record() (header, []byte, error) {
	for {
		h, data, size, err := parseRecord(w.buf)
		if err == nil {
			w.buf = w.buf[size:]
			w.pos += int64(size)
			return h, data, nil
		}
		if size == 0 || w.pos+int64(len(w.buf)) >= w.limit {
			if len(w.buf) == 0 {
				return header{}, nil, io.EOF
			}
			return header{}, nil, errTorn
		}
		if err := w.fill(); err != nil {
			return header{}, nil, err
		}
	}
}

func (w *window) fill() error {
	if w.store == nil {
		w.store = make([]byte, windowSize)
	}
	have := copy(w.store, w.buf)
	room := min(int64(len(w.store)-have), w.limit-w.pos-int64(have))
	n, err := w.file.ReadAt(w.store[have:have+int(room)], w.pos+int64(have))
	w.buf = w.store[:have+n]
	if n == 0 {
		if errors.Is(err, io.EOF) {
			w.limit = w.pos + int64(have)
			return nil
		}
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
