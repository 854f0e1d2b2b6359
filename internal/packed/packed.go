// Package packed sends answers over HTTP compressed to whoever takes that, streams too.
// The console and the HTTP API use it. It must never hold back what a stream has said for
// longer than a moment.
package packed

import (
	"compress/gzip"
	"io"
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

// writers are those that are not in use.
var writers sync.Pool

func take(to io.Writer) *gzip.Writer {
	if z, ok := writers.Get().(*gzip.Writer); ok {
		z.Reset(to)
		return z
	}
	z, _ := gzip.NewWriterLevel(to, gzip.BestSpeed) // the level is one
	return z
}

// Writer is an http.ResponseWriter that compresses what is written to it: every answer
// of status 200 that is a Stream, is flushed before it is written, or has at least Least bytes in its first write. Its
// methods may not be called at the same time, as those of any other; Close is called when
// the answer is complete.
type Writer struct {
	http.ResponseWriter
	ctl     *http.ResponseController
	failed  func()
	status  int
	started bool // the header is out

	mu    sync.Mutex // of what follows: a timer flushes, too
	zip   *gzip.Writer
	timer *time.Timer // nil: nothing waits
	err   error       // of a flush by the timer
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
		w.zip = take(w.ResponseWriter)
	}
	w.ResponseWriter.WriteHeader(w.status)
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(len(p) >= Least || strings.HasPrefix(w.Header().Get("Content-Type"), Stream))
	if w.err != nil {
		return 0, w.err
	}
	if w.zip == nil {
		return w.ResponseWriter.Write(p)
	}
	return w.zip.Write(p)
}

// FlushError has what was written sent within a moment. The error may be of an earlier one.
func (w *Writer) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(true)
	if w.zip == nil {
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
	if w.err = w.zip.Flush(); w.err == nil {
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
	if w.zip == nil {
		return w.err
	}
	err := w.zip.Close()
	w.zip.Reset(io.Discard)
	writers.Put(w.zip)
	w.zip = nil
	return err
}

// Unwrap lets http.ResponseController find the deadlines.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
