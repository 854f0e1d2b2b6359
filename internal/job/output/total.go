package output

import (
	"container/list"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
)

// DefaultMaxTotal bounds all logs of a worker together unless it says otherwise:
// as much as 256 that are written take at most.
const DefaultMaxTotal = 16 << 30

// Total bounds what several logs take on disk together: those that are written
// (Options.Total) and those that have ended. When it is reached, the ended one
// that ended first is dropped whole, then the next. If those that are written
// exceed it alone, the largest of them loses its oldest segment. Readers are
// told how much they missed.
//
// What is about to be written is counted before it is, so the files exceed the
// total by no more than a record for each writer. What is left of a dropped log
// is an empty record that says where it ended; it is not counted.
//
// A nil *Total bounds nothing. Its methods may be called from anywhere, at any time.
type Total struct {
	max    int64
	used   atomic.Int64 // bytes that are written or about to be
	shares atomic.Int64 // logs that are written

	mu      sync.Mutex // taken before that of a log
	writing map[*Log]bool
	ended   *list.List               // of entry, the first to end first
	entries map[string]*list.Element // of ended, by directory
}

// entry is an ended log.
type entry struct {
	dir  string
	size int64
}

// NewTotal makes one of so many bytes. Zero means DefaultMaxTotal; less than
// MinMaxBytes is a *rota.FieldError.
func NewTotal(bytes int64) (*Total, error) {
	if bytes == 0 {
		bytes = DefaultMaxTotal
	}
	if bytes < MinMaxBytes {
		return nil, &rota.FieldError{Field: "max_total", Value: bytes, Want: fmt.Sprintf("%d or more", MinMaxBytes)}
	}
	return &Total{max: bytes, writing: map[*Log]bool{}, ended: list.New(), entries: map[string]*list.Element{}}, nil
}

// Add counts a log that ended before t was made, if dir has one. Those that
// ended first are added first.
func (t *Total) Add(dir string) error {
	segments, err := find(dir)
	if err != nil {
		return err
	}
	var size int64
	for _, s := range segments {
		size += s.size
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if size <= headerSize || t.entries[dir] != nil { // nothing, or what is left of a dropped one
		return nil
	}
	t.used.Add(size)
	t.keep(dir, size)
	t.fit()
	return nil
}

// Size is how many bytes the ended log in dir takes: none once it was dropped.
func (t *Total) Size(dir string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[dir]; e != nil {
		one, _ := e.Value.(entry)
		return one.size
	}
	return 0
}

// Open is the function Open for an ended log of t, which is not dropped meanwhile.
func (t *Total) Open(dir string) (*Log, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return openLog(dir)
}

// Remove removes the directory of an ended log with all that is in it.
func (t *Total) Remove(dir string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if e := t.entries[dir]; e != nil {
		t.forget(e)
	}
	return nil
}

// keep notes an ended log, whose bytes are counted. t.mu is held.
func (t *Total) keep(dir string, size int64) {
	t.entries[dir] = t.ended.PushBack(entry{dir, size})
}

// forget is the reverse of keep, and counts its bytes no more.
func (t *Total) forget(e *list.Element) {
	gone, _ := t.ended.Remove(e).(entry)
	delete(t.entries, gone.dir)
	t.used.Add(-gone.size)
}

// begin counts a log that is going to be written.
func (t *Total) begin(l *Log) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing[l] = true
	t.shares.Add(1)
}

// end is the reverse of begin: l has ended, and its size does not change any more.
func (t *Total) end(l *Log) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.writing[l] {
		return
	}
	delete(t.writing, l)
	t.shares.Add(-1)
	if size := l.Disk(); size > 0 {
		t.keep(l.dir, size)
	}
}

// share is what each log that is written could take.
func (t *Total) share() int64 {
	if t == nil {
		return math.MaxInt64
	}
	return t.max / max(1, t.shares.Load())
}

// reserve counts n bytes that are about to be written and makes room for them.
func (t *Total) reserve(n int64) {
	if t == nil || t.used.Add(n) <= t.max {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fit()
}

// release counts n bytes no more.
func (t *Total) release(n int64) {
	if t != nil {
		t.used.Add(-n)
	}
}

// fit drops what is too much. t.mu is held. What the disk does not let go stays
// counted and is tried again.
func (t *Total) fit() {
	for e := t.ended.Front(); e != nil && t.used.Load() > t.max; {
		oldest := e
		e = e.Next()
		if one, _ := oldest.Value.(entry); empty(one.dir) == nil {
			t.forget(oldest)
		}
	}
	for t.used.Load() > t.max {
		var largest *Log
		var most int64
		for l := range t.writing {
			if size := l.Disk(); size > most {
				largest, most = l, size
			}
		}
		if largest == nil || !largest.shed() {
			return
		}
	}
}

// empty drops all bytes of an ended log but leaves word of how many there were.
func empty(dir string) error {
	l, err := openLog(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.next == l.segments[len(l.segments)-1].start {
		l.segments = l.segments[:len(l.segments)-1] // a crash came between: the word is there
	} else if err = l.leaveWord(); err != nil {
		defer func() { _ = l.leaveWord() }() // a full disk has room after that
	}
	for _, s := range l.segments {
		if err := os.Remove(s.path); err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	return nil
}

// leaveWord writes a segment that says only where an ended log ended.
func (l *Log) leaveWord() error {
	word := appendRecord(nil, header{offset: l.next, micros: time.Now().UnixMicro(), stream: end}, nil)
	if err := os.WriteFile(l.path(), word, 0o600); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
