// Package packed sends answers over HTTP compressed to whoever takes that, streams too.
// The console and the HTTP API use it. It must never hold back what a stream has said for
// longer than a moment.
package packed

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Least is the least size of an answer that is compressed, in bytes; a smaller one takes
// one packet either way.
const Least = 1400

// Stream is the type of answers that go on: they are compressed however short they begin.
const Stream = "application/x-ndjson"

// moment is how long what a stream says may wait for more: a list of thousands of
// messages goes out in a few pieces, and no reader notices.
const moment = 10 * time.Millisecond

// Takes says whether a client takes gzip, from the values of its header Accept-Encoding:
// it names it, or anything, and not with a quality of zero.
func Takes(accepts []string) bool {
	anything := false
	for each := range strings.SplitSeq(strings.Join(accepts, ","), ",") {
		name, params, _ := strings.Cut(each, ";")
		yes := true
		if q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(params)), "q="); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			yes = err == nil && n > 0
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			return yes
		case "*":
			anything = yes
		}
	}
	return anything
}

// piece is how much is compressed at a time, in bytes.
const piece = 64 << 10

// press is a compressor with room for what it makes: more than a megabyte. An answer has
// one only while a piece is compressed into memory, so streams that are silent and
// clients that do not read hold none.
type press struct {
	out bytes.Buffer
	z   *flate.Writer
}

var presses = sync.Pool{New: func() any {
	p := &press{}
	p.z, _ = flate.NewWriter(&p.out, flate.BestSpeed) // the level is one
	return p
}}

// deflate is p as blocks of DEFLATE that stand for themselves and end at a byte, so that
// others may follow (RFC 1951).
func deflate(p []byte) []byte {
	c, _ := presses.Get().(*press) // nothing else is in it
	defer presses.Put(c)
	c.out.Reset()
	c.z.Reset(&c.out)
	_, _ = c.z.Write(p) // into memory
	_ = c.z.Flush()
	return bytes.Clone(c.out.Bytes())
}

// What a file of gzip begins with, and the last block of DEFLATE, which is empty (RFC 1952).
const (
	first = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
	last  = "\x01\x00\x00\xff\xff"
)

// Writer is an http.ResponseWriter that compresses what is written to it: every answer
// of status 200 that is a Stream, is flushed before it is written, or has at least Least
// bytes in its first write. Its methods may not be called at the same time, as those of
// any other; Close is called when the answer is complete.
type Writer struct {
	http.ResponseWriter
	ctl     *http.ResponseController
	failed  func()
	status  int
	started bool // the header is out

	mu    sync.Mutex // of what follows: a timer flushes, too
	packs bool
	begun bool        // what a file of gzip begins with is out
	waits []byte      // less than a piece, to be compressed
	sum   uint32      // of all that was compressed
	size  uint32      // of it, modulo 1<<32
	timer *time.Timer // nil: nobody has asked for a flush
	err   error       // of a write that nobody waited for
	done  bool
}

// New returns a writer for an answer to r, or nil if the client does not take gzip. If
// what waited cannot be sent, failed is called, once, so that a stream ends that has
// nothing more to say.
func New(w http.ResponseWriter, r *http.Request, failed func()) *Writer {
	if r.Method == http.MethodHead || !Takes(r.Header.Values("Accept-Encoding")) {
		return nil
	}
	return &Writer{ResponseWriter: w, ctl: http.NewResponseController(w), failed: failed, status: http.StatusOK}
}

// WriteHeader implements http.ResponseWriter. The header goes out with the first write.
func (w *Writer) WriteHeader(status int) {
	if status < http.StatusOK {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if !w.started {
		w.status = status
	}
}

// start sends the header. A part of an answer is not compressed: its range counts what is not.
func (w *Writer) start(pack bool) {
	if w.started {
		return
	}
	w.started = true
	head := w.Header()
	head.Add("Vary", "Accept-Encoding")
	if pack && w.status == http.StatusOK && head.Get("Content-Encoding") == "" {
		head.Set("Content-Encoding", "gzip")
		head.Del("Content-Length")
		w.packs = true
	}
	w.ResponseWriter.WriteHeader(w.status)
}

// send sends what is compressed.
func (w *Writer) send(p []byte) {
	if !w.begun {
		w.begun, p = true, append([]byte(first), p...)
	}
	if w.err == nil {
		_, w.err = w.ResponseWriter.Write(p)
	}
}

// pack sends p compressed.
func (w *Writer) pack(p []byte) {
	if len(p) > 0 && w.err == nil {
		w.sum, w.size = crc32.Update(w.sum, crc32.IEEETable, p), w.size+uint32(len(p))
		w.send(deflate(p))
	}
}

// packAll sends what waits.
func (w *Writer) packAll() {
	w.pack(w.waits)
	w.waits = nil
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(len(p) >= Least || strings.HasPrefix(w.Header().Get("Content-Type"), Stream))
	if !w.packs {
		return w.ResponseWriter.Write(p)
	}
	n := len(p)
	for len(p) > 0 && w.err == nil {
		more := min(len(p), piece-len(w.waits))
		if more == piece {
			w.pack(p[:more])
		} else if w.waits = append(w.waits, p[:more]...); len(w.waits) == piece {
			w.packAll()
		}
		p = p[more:]
	}
	return n - len(p), w.err
}

// FlushError has what was written sent within a moment. The error may be of an earlier one.
func (w *Writer) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(true)
	if !w.packs {
		return w.ctl.Flush()
	}
	if w.timer == nil && w.err == nil {
		w.timer = time.AfterFunc(moment, w.late)
	}
	return w.err
}

func (w *Writer) late() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer = nil; w.done || w.err != nil {
		return
	}
	if w.packAll(); w.err == nil {
		w.err = w.ctl.Flush()
	}
	if w.err != nil {
		w.failed()
	}
}

// Close ends the answer. Nothing may be written after it.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started && w.status != http.StatusOK {
		w.start(false)
	}
	w.done = true
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.packs {
		w.packAll()
		end := binary.LittleEndian.AppendUint32([]byte(last), w.sum)
		w.send(binary.LittleEndian.AppendUint32(end, w.size))
	}
	return w.err
}

// Unwrap lets http.ResponseController find the deadlines.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
