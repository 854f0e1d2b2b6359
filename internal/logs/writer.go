package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// defaultQueue is how many bytes wait for a reader before lines are dropped.
const defaultQueue = 1 << 20

// flushTime is how long a process that ends waits for its last lines to be
// read.
const flushTime = 500 * time.Millisecond

// Writer is an io.Writer that never blocks and never fails. Each Write is taken
// whole or dropped whole, so a caller writes whole lines. Its methods are safe
// for concurrent use.
type Writer struct {
	dst    io.Writer
	limit  int
	notice func(dropped uint64) []byte

	mu      sync.Mutex
	queue   []byte
	lines   uint64 // in queue
	dropped uint64 // since the last notice
	total   uint64
	writing bool
	changed *sync.Cond
	keep    int
	last    []byte // whole lines, up to keep bytes, and up to as many again before they are cut
}

// NewWriter returns a Writer to dst whose queue holds limit bytes; 0 means
// defaultQueue. notice words the line that tells of dropped ones; nil means a
// plain sentence.
func NewWriter(dst io.Writer, limit int, notice func(dropped uint64) []byte) *Writer {
	if limit <= 0 {
		limit = defaultQueue
	}
	if notice == nil {
		notice = func(n uint64) []byte { return fmt.Appendf(nil, "%d log lines dropped: nobody read them in time\n", n) }
	}
	w := &Writer{dst: dst, limit: limit, notice: notice}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// SetNotice replaces how a line that tells of dropped ones is worded.
func (w *Writer) SetNotice(notice func(dropped uint64) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notice = notice
}

// Write takes p, or drops it. It always answers len(p) and nil.
func (w *Writer) Write(p []byte) (int, error) {
	w.remember(p)
	w.put(p, w.limit)
	return len(p), nil
}

// Keep has Last answer what is written from now on, so many bytes of it.
func (w *Writer) Keep(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep = bytes
}

// Last is the end of what was written, in whole lines, what was dropped included; of
// what came by Half it has nothing.
func (w *Writer) Last() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(tail(w.last, w.keep))
}

func (w *Writer) remember(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keep <= 0 {
		return
	}
	if w.last = append(w.last, p...); len(w.last) > 2*w.keep {
		w.last = append(w.last[:0], tail(w.last, w.keep)...)
	}
}

// tail is the last whole lines of b, at most so many bytes.
func tail(b []byte, most int) []byte {
	if len(b) <= most {
		return b
	}
	b = b[len(b)-most-1:]
	_, whole, _ := bytes.Cut(b, []byte{'\n'})
	return whole
}

// Half is a writer to the same queue that may fill only half of it: for what
// others write, so that a flood of theirs leaves room for the process's own.
func (w *Writer) Half() io.Writer { return half{w} }

type half struct{ w *Writer }

func (h half) Write(p []byte) (int, error) {
	h.w.put(p, h.w.limit/2)
	return len(p), nil
}

func (w *Writer) put(p []byte, limit int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue)+len(p) > limit {
		w.drop(1)
		return
	}
	w.tell()
	w.queue = append(w.queue, p...)
	w.lines++
	if !w.writing {
		w.writing = true
		go w.run()
	}
}

// tell puts the notice of what was dropped before what comes next.
func (w *Writer) tell() {
	if w.dropped == 0 {
		return
	}
	w.queue = append(w.queue, w.notice(w.dropped)...)
	w.lines++
	w.dropped = 0
}

func (w *Writer) drop(n uint64) {
	w.dropped += n
	w.total += n
}

// run writes until the queue is empty. It exists only while there is something
// to write, so that a Writer needs no end.
func (w *Writer) run() {
	var spare []byte
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.writing = false
			w.changed.Broadcast()
			w.mu.Unlock()
			return
		}
		chunk, lines := w.queue, w.lines
		w.queue, w.lines = spare[:0], 0
		w.mu.Unlock()
		n, err := w.dst.Write(chunk)
		if err != nil || n < len(chunk) {
			lost := uint64(bytes.Count(chunk[max(n, 0):], []byte("\n")))
			w.mu.Lock()
			w.drop(min(max(lost, 1), lines))
			w.mu.Unlock()
		}
		spare = chunk
		if cap(spare) > w.limit/8 {
			spare = nil // a flood is over, its memory goes
		}
	}
}

// Dropped is how many lines were dropped in all.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

// Flush waits until everything taken so far is written, at most d, and reports
// whether it is.
func (w *Writer) Flush(d time.Duration) bool {
	late := false
	timer := time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		late = true
		w.changed.Broadcast()
	})
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.writing && !late {
		w.changed.Wait()
	}
	return !w.writing
}

// Flush waits for what w has taken, at most flushTime, if it is a Writer. A
// process that ends calls it.
func Flush(w io.Writer) {
	if w, ok := w.(*Writer); ok {
		w.Flush(flushTime)
	}
}

// Last writes the last words of a process that is about to end, and waits for
// them no longer than flushTime. For who has no Writer.
func Last(format string, args ...any) {
	w := NewWriter(os.Stderr, 0, nil)
	_, _ = fmt.Fprintf(w, format+"\n", args...)
	w.Flush(flushTime)
}

// OutlivePipes makes a write to a pipe that nobody reads any more an error
// instead of the end of this process. Programs that it starts are not touched,
// as they would be if the signal were ignored.
func OutlivePipes() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
