package tasklog

import (
	"bytes"
	"container/list"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/rota-project/rota"
)

// Limits of a Keeper.
const (
	// RunBytes is the most that is kept of one run.
	RunBytes = 64 << 10
	// TotalBytes is the most that is kept in all: if all are full, that is both runs of
	// 512 instances. With more, each has its share.
	TotalBytes = 64 << 20
	// MaxLeft is of how many instances that have left the worker anything is kept.
	MaxLeft = 1000
)

// Stream tells apart where something was written.
type Stream uint8

// The streams, as the API counts them.
const (
	Stdout Stream = 1
	Stderr Stream = 2
	Logged Stream = 3 // by a Go function's logger
)

// Keeper keeps the logs of a worker. Its methods are safe for concurrent use.
type Keeper struct {
	name       string
	run, total int // limits in bytes

	mu      sync.Mutex
	entries map[rota.Instance]*entry
	left    *list.List // of instances that have left the worker, the first to leave first
	bytes   int        // that all records take
	serial  uint64     // of entries
}

// entry is the log of an instance. Offsets count all bytes that it has written.
type entry struct {
	instance          rota.Instance
	source            string
	previous, current *Run
	runs              uint64
	next              int64         // offset of the next byte
	leaving           *list.Element // in left; nil while the worker has it
	waiters           int
	news              chan struct{} // closed when there is something new, if anybody waits
}

// Run is one run of an instance, and what takes its output.
type Run struct {
	k          *Keeper
	e          *entry
	number     uint64 // how many runs there were before
	generation rota.Generation
	start      int64 // offset of its first byte
	records    []record
	bytes      int // that they take
	ended      bool
}

// record is something that was written at once, or nearly so.
type record struct {
	stream Stream
	micros int64 // when
	offset int64
	data   []byte // whole characters
}

const (
	// recordBytes is the most data of a record: what goes at once when there is no more
	// room.
	recordBytes = 4 << 10
	// overhead is what a record takes besides.
	overhead = 64
	// joinMicros is how long after a record what follows is taken for a part of it.
	joinMicros = 1_000_000
)

// add adds what fits into recordBytes, and takes no more memory than that.
func (r *record) add(data []byte) {
	if n := len(r.data) + len(data); n > cap(r.data) {
		r.data = append(make([]byte, 0, min(n+n, recordBytes)), r.data...)
	}
	r.data = append(r.data, data...)
}

func (r *record) takes() int { return cap(r.data) + overhead }

// New returns a keeper whose logs are named after name, which is to be another one for
// each start of the worker.
func New(name string) *Keeper { return newKeeper(name, RunBytes, TotalBytes) }

func newKeeper(name string, run, total int) *Keeper {
	return &Keeper{name: name, run: run, total: total, entries: map[rota.Instance]*entry{}, left: list.New()}
}

// Bytes is how much memory all that is kept takes.
func (k *Keeper) Bytes() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bytes
}

// Begin begins a run. What was the current one is now the previous.
func (k *Keeper) Begin(i rota.Instance, g rota.Generation) *Run {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[i]
	if e == nil {
		k.serial++
		e = &entry{instance: i, source: fmt.Sprintf("%s.%d", k.name, k.serial)}
		k.entries[i] = e
	}
	if e.leaving != nil {
		k.left.Remove(e.leaving)
		e.leaving = nil
	}
	k.drop(e.previous)
	e.previous = e.current
	e.current = &Run{k: k, e: e, number: e.runs, generation: g, start: e.next}
	e.runs++
	return e.current
}

// Leave notes that the worker has an instance no more. Its log stays until the room is
// needed.
func (k *Keeper) Leave(i rota.Instance) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[i]
	if e == nil || e.leaving != nil {
		return
	}
	e.leaving = k.left.PushBack(e)
	e.wake()
	for k.left.Len() > MaxLeft {
		k.forgetOldest()
	}
}

// forgetOldest forgets the instance that left first.
func (k *Keeper) forgetOldest() {
	first := k.left.Front()
	e, _ := k.left.Remove(first).(*entry)
	k.drop(e.previous)
	k.drop(e.current)
	delete(k.entries, e.instance)
}

// drop drops the records of a run; nil has none.
func (k *Keeper) drop(r *Run) {
	if r != nil {
		k.bytes -= r.bytes
		r.records, r.bytes = nil, 0
	}
}

// End notes that the function has returned: nothing more comes of this run.
func (r *Run) End() {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()
	r.ended = true
	r.e.wake()
}

// wake tells who waits that there is something new. The keeper's mu is held.
func (e *entry) wake() {
	if e.waiters > 0 {
		close(e.news)
		e.news, e.waiters = nil, 0
	}
}

// wait is a channel that is closed when there is something new. The keeper's mu is held.
func (e *entry) wait() <-chan struct{} {
	if e.news == nil {
		e.news = make(chan struct{})
	}
	e.waiters++
	return e.news
}

// append keeps whole characters that were written to a stream.
func (r *Run) append(s Stream, data []byte, micros int64) {
	k, e := r.k, r.e
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.ended || k.entries[e.instance] != e || e.current != r {
		return // of a process that was left behind
	}
	for len(data) > 0 {
		n := wholeBefore(data, recordBytes)
		r.put(s, data[:n], micros)
		data = data[n:]
	}
	for r.bytes > k.run {
		r.dropFirst()
	}
	if k.bytes > k.total {
		k.shed()
	}
	e.wake()
}

// put adds at most recordBytes.
func (r *Run) put(s Stream, data []byte, micros int64) {
	last := len(r.records) - 1
	if last >= 0 {
		l := &r.records[last]
		if l.stream == s && micros-l.micros < joinMicros && len(l.data)+len(data) <= recordBytes {
			before := l.takes()
			l.add(data)
			r.grow(l.takes() - before)
			r.e.next += int64(len(data))
			return
		}
	}
	l := record{stream: s, micros: micros, offset: r.e.next, data: bytes.Clone(data)}
	r.records = append(r.records, l)
	r.grow(l.takes())
	r.e.next += int64(len(data))
}

func (r *Run) grow(n int) {
	r.bytes += n
	r.k.bytes += n
}

func (r *Run) dropFirst() {
	r.grow(-r.records[0].takes())
	r.records[0] = record{}
	r.records = r.records[1:]
}

// shed makes room: first goes what has left the worker, then whatever is more than a
// run's share. An eighth is left free, so that it is not done for each record.
func (k *Keeper) shed() {
	for k.bytes > k.total && k.left.Len() > 0 {
		k.forgetOldest()
	}
	if k.bytes <= k.total {
		return
	}
	var all []*Run
	for _, e := range k.entries {
		for _, r := range []*Run{e.previous, e.current} {
			if r != nil && r.bytes > 0 {
				all = append(all, r)
			}
		}
	}
	for share := k.total / len(all) * 7 / 8; k.bytes > k.total*7/8 && share > 0; share /= 2 {
		for _, r := range all {
			for r.bytes > share && len(r.records) > 0 {
				r.dropFirst()
			}
		}
	}
}

// wholeBefore is how many of the first most bytes of b end with a whole character, or
// with something that is none.
func wholeBefore(b []byte, most int) int {
	if len(b) <= most {
		return len(b)
	}
	return most - unfinished(b[:most])
}

// unfinished is how many bytes at the end of b begin a character that may go on.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n:]; utf8.RuneStart(c[0]) {
			if utf8.FullRune(c) {
				return 0
			}
			return n
		}
	}
	return 0
}
