package output

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rota-project/rota"
)

// DefaultMaxBytes bounds a log unless it says otherwise.
const DefaultMaxBytes = 64 << 20

// defaultMaxRate is what one job may write a second, unless the log says
// otherwise: as much as a follower on the network reads, and no more than a disk
// that others need too should bear.
const defaultMaxRate = 100 << 20

// burst is how much may come at once.
const burst = 4 << 20

// MinMaxBytes is the least bound: less would hold too few records to be of use.
const MinMaxBytes = 1 << 20

// segmentsPerLog says in how many pieces a log is kept, and so what part of it
// goes at once when it is full.
const segmentsPerLog = 8

const suffix = ".out"

// Options of a log.
type Options struct {
	// MaxBytes bounds the files of the log together. Zero means
	// DefaultMaxBytes; less than MinMaxBytes is an error.
	MaxBytes int64
	// MaxRate is how many bytes a second the log takes; a job that writes faster
	// waits. Zero means defaultMaxRate, less is no limit.
	MaxRate int64
	// Total bounds the log and others together. Nil is no such bound.
	Total *Total
}

// spillBytes is how much a log keeps in memory of what the disk refuses.
const spillBytes = 256 << 10

// retryDisk is how long a disk that refuses is left alone.
const retryDisk = time.Second

// segment is one file, or what the disk has refused. size is what is committed of it.
type segment struct {
	start  int64 // offset of its first byte
	size   int64
	path   string
	memory []byte // not nil: it is kept here
}

// Log is the output of one attempt of one job. Its methods may be called from
// anywhere, at any time.
type Log struct {
	dir    string
	max    int64
	shared *Total        // nil is no such bound
	pace   *rate.Limiter // nil is no limit

	mu       sync.Mutex
	segments []segment
	file     *os.File // the last segment, while the log is written
	next     int64    // offset of the next byte
	total    int64    // bytes of all segments
	closed   bool
	err      error     // the last thing the disk refused
	retry    time.Time // when the disk is tried again, if the last segment is in memory
	spilled  int64     // bytes of the segments in memory
	lost     int64     // bytes of output that the disk refused and memory did not hold
	buf      []byte
	waiters  int
	grown    chan struct{} // closed when there is more, if anybody waits
}

// Create begins a log in dir, which must hold none yet. The directory is made
// with the first byte that is written: most commands that say nothing cost the
// disk nothing.
func Create(dir string, o Options) (*Log, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxBytes < MinMaxBytes {
		return nil, &rota.FieldError{Field: "max_bytes", Value: o.MaxBytes, Want: fmt.Sprintf("%d or more", MinMaxBytes)}
	}
	l := &Log{dir: dir, max: o.MaxBytes, shared: o.Total, grown: make(chan struct{})}
	if o.MaxRate == 0 {
		o.MaxRate = defaultMaxRate
	}
	if o.MaxRate > 0 {
		l.pace = rate.NewLimiter(rate.Limit(o.MaxRate), burst)
	}
	switch segments, err := find(dir); {
	case err != nil:
		return nil, err
	case len(segments) > 0:
		return nil, fmt.Errorf("output: %s: %w", dir, os.ErrExist)
	}
	l.shared.begin(l)
	return l, nil
}

// Empty is a log that was closed, of which nothing is left of so many bytes.
func Empty(written int64) *Log {
	return &Log{max: math.MaxInt64, closed: true, next: written, grown: make(chan struct{})}
}

// openLog opens a log that nobody writes any more: one that was closed, or whose
// writer died. A torn tail is cut off.
func openLog(dir string) (*Log, error) {
	segments, err := find(dir)
	if err != nil {
		return nil, err
	}
	if len(segments) == 0 {
		return nil, fmt.Errorf("output: %s: %w", dir, os.ErrNotExist)
	}
	l := &Log{dir: dir, max: math.MaxInt64, closed: true, grown: make(chan struct{}), segments: segments}
	last := &segments[len(segments)-1]
	l.next = last.start
	size, err := scan(last.path, func(h header) { l.next = h.offset + int64(h.length) })
	if err != nil {
		return nil, err
	}
	if size < last.size {
		if err := os.Truncate(last.path, size); err != nil {
			return nil, fmt.Errorf("output: cut torn tail: %w", err)
		}
		last.size = size
	}
	for _, s := range segments {
		l.total += s.size
	}
	return l, nil
}

// Written says that a log which was opened had so many bytes, where its writer
// could not put that on the disk: what is not there is missed.
func (l *Log) Written(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = max(l.next, bytes)
}

// find lists the segments of dir in order: none if it is not there.
func find(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	var out []segment
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		start, err := strconv.ParseInt(name, 10, 64)
		if err != nil || start < 0 {
			continue
		}
		fi, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // dropped since
		}
		if err != nil {
			return nil, fmt.Errorf("output: %w", err)
		}
		out = append(out, segment{start: start, size: fi.Size(), path: filepath.Join(dir, e.Name())})
	}
	slices.SortFunc(out, func(a, b segment) int {
		if a.start < b.start {
			return -1
		}
		return 1
	})
	return out, nil
}

// scan calls fn for each sound record of a file and returns where they end.
func scan(path string, fn func(header)) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("output: %w", err)
	}
	defer func() { _ = f.Close() }()
	w := window{file: f, limit: math.MaxInt64}
	for {
		h, _, err := w.record()
		if errors.Is(err, errTorn) || errors.Is(err, io.EOF) {
			return w.pos, nil
		}
		if err != nil {
			return 0, err
		}
		fn(h)
	}
}

// Writer is the sink of one stream. Its Write never fails and never drops
// anything but what the disk refuses.
func (l *Log) Writer(s Stream) io.Writer { return writer{l, s} }

type writer struct {
	log    *Log
	stream Stream
}

func (w writer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxRecord)
		if err := w.log.append(w.stream, rest[:n]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[n:]
		if w.log.pace != nil {
			// What the job wrote is there at once; that it may go on is what waits.
			time.Sleep(w.log.pace.ReserveN(time.Now(), n).Delay())
		}
	}
	return len(p), nil
}

// buffers are lent to writers for what they read, so that a command which says
// little does not leave two of them to the garbage collector.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom writes what r has until its end.
func (w writer) ReadFrom(r io.Reader) (n int64, err error) {
	buf, _ := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		got, rerr := r.Read(buf[:])
		done, werr := w.Write(buf[:got])
		n += int64(done)
		switch {
		case werr != nil:
			return n, werr
		case errors.Is(rerr, io.EOF):
			return n, nil
		case rerr != nil:
			return n, rerr
		}
	}
}

func (l *Log) append(s Stream, data []byte) error {
	size := int64(headerSize + len(data))
	l.shared.reserve(size)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.shared.release(size)
		return os.ErrClosed
	}
	h := header{offset: l.next, micros: time.Now().UnixMicro(), stream: s}
	if !l.toDisk(h, data) {
		l.shared.release(size)
		l.toMemory(h, data)
	}
	l.next += int64(len(data))
	l.wake()
	return nil
}

// toDisk writes one record, for which room is reserved, or notes why it cannot.
func (l *Log) toDisk(h header, data []byte) bool {
	if l.inMemory() && time.Now().Before(l.retry) {
		return false
	}
	size := int64(headerSize + len(data))
	full := func() bool {
		last := &l.segments[len(l.segments)-1]
		return last.size > 0 && last.size+size > min(l.max, l.shared.share())/segmentsPerLog
	}
	if len(l.segments) == 0 || l.inMemory() || full() {
		if err := l.roll(); err != nil {
			l.err = err
			if len(l.segments) == 0 || l.inMemory() {
				return false
			} // else it goes on in the old one, rather than lose anything
		}
	}
	return l.write(h, data)
}

// inMemory reports whether what was written last is in memory.
func (l *Log) inMemory() bool {
	return len(l.segments) > 0 && l.segments[len(l.segments)-1].memory != nil
}

// toMemory keeps a record that the disk has refused, and drops the oldest of those
// that are too many.
func (l *Log) toMemory(h header, data []byte) {
	size := int64(headerSize + len(data))
	if !l.inMemory() || l.segments[len(l.segments)-1].size+size > spillBytes/2 {
		l.segments = append(l.segments, segment{start: h.offset, memory: []byte{}})
		l.retry = time.Now().Add(retryDisk)
	}
	last := &l.segments[len(l.segments)-1]
	last.memory = appendRecord(last.memory, h, data)
	last.size += size
	l.spilled += size
	for l.spilled > spillBytes {
		n := slices.IndexFunc(l.segments, func(s segment) bool { return s.memory != nil })
		l.lost += l.segments[n+1].start - l.segments[n].start
		l.spilled -= l.segments[n].size
		l.segments = slices.Delete(l.segments, n, n+1)
	}
}

// write puts one record, for which room is reserved, at the end of the last
// segment, or notes why it could not.
func (l *Log) write(h header, data []byte) bool {
	last := &l.segments[len(l.segments)-1]
	l.buf = appendRecord(l.buf[:0], h, data)
	if _, err := l.file.WriteAt(l.buf, last.size); err != nil {
		l.err = fmt.Errorf("output: %w", err)
		_ = l.file.Truncate(last.size)
		if last.size == 0 { // a file of the same name may be needed again
			_ = os.Remove(last.path)
			_ = l.file.Close()
			l.file = nil
			l.segments = l.segments[:len(l.segments)-1]
		}
		return false
	}
	last.size += int64(len(l.buf))
	l.total += int64(len(l.buf))
	return true
}

// roll begins a new segment and makes room for it.
func (l *Log) roll() error {
	if len(l.segments) == 0 {
		if err := os.MkdirAll(l.dir, 0o711); err != nil { //nolint:gosec // others may pass through, not list
			return fmt.Errorf("output: %w", err)
		}
	}
	path := l.path()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			l.err = fmt.Errorf("output: %w", err)
		}
	}
	l.file = f
	l.segments = append(l.segments, segment{start: l.next, path: path})
	for len(l.segments) > 1 && l.total > l.max-l.max/segmentsPerLog && l.dropFirst() {
	}
	return nil
}

// path is that of a segment which begins here.
func (l *Log) path() string { return filepath.Join(l.dir, fmt.Sprintf("%020d%s", l.next, suffix)) }

// dropFirst removes the oldest segment, unless the disk refuses.
func (l *Log) dropFirst() bool {
	first := l.segments[0]
	if first.memory != nil {
		l.spilled -= first.size
		l.segments = slices.Delete(l.segments, 0, 1)
		return true
	}
	if err := os.Remove(first.path); err != nil {
		l.err = fmt.Errorf("output: %w", err)
		return false
	}
	l.total -= first.size
	l.shared.release(first.size)
	l.segments = slices.Delete(l.segments, 0, 1)
	return true
}

// shed drops the oldest segment of a log that is written, be it the only one,
// and reports whether it did.
func (l *Log) shed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 0 || !l.dropFirst() {
		return false
	}
	if len(l.segments) == 0 && l.file != nil {
		_ = l.file.Close() // nobody reads what it may have had left to say
		l.file = nil
	}
	return true
}

func (l *Log) wake() {
	if l.waiters > 0 {
		close(l.grown)
		l.grown = make(chan struct{})
		l.waiters = 0
	}
}

// Close ends the log: readers that have read all of it get io.EOF. It returns
// the last thing that the disk refused since the log was created. It is safe twice.
func (l *Log) Close() error {
	l.shared.reserve(headerSize)
	err := l.close()
	l.shared.end(l)
	return err
}

func (l *Log) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.shared.release(headerSize)
		return nil
	}
	if len(l.segments) == 0 && l.next > 0 { // all was dropped: say so
		if err := l.roll(); err != nil {
			l.err = err
		}
	}
	if h := (header{offset: l.next, micros: time.Now().UnixMicro(), stream: end}); len(l.segments) == 0 || l.inMemory() || !l.write(h, nil) {
		l.shared.release(headerSize)
	}
	l.closed = true
	l.wake()
	if l.file == nil {
		return l.err
	}
	if err := l.file.Close(); err != nil && l.err == nil {
		l.err = fmt.Errorf("output: %w", err)
	}
	return l.err
}

// Size is the offset of the next byte: how much was written in all.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// First is the offset of the oldest byte that is still there.
func (l *Log) First() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 0 {
		return l.next
	}
	return l.segments[0].start
}

// Spilled is how many bytes of memory the log takes, as the disk has refused them.
func (l *Log) Spilled() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spilled
}

// Lost is how many bytes of output were lost, as the disk has refused them and
// memory could not hold them.
func (l *Log) Lost() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Disk is how many bytes of disk the log takes.
func (l *Log) Disk() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}
