// Package source reads lists of tasks from where users keep them: a function, a
// watched file, a polled URL. The leader asks; whatever goes wrong is an error,
// and the last good list stays.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/rota-project/rota"
)

// ErrUnchanged is what Read returns when the list is the one it gave last.
var ErrUnchanged = errors.New("source: unchanged")

// Generator is a service's own list of what should run. An error leaves
// everything as it is.
type Generator func(ctx context.Context) ([]rota.Task, error)

// Source is a named list of tasks.
type Source struct {
	// Name tells sources apart; it is kept with their tasks.
	Name string
	// Every is how often it is read. Zero means at each of the scheduler's intervals.
	Every time.Duration
	// Read gives the whole list, or ErrUnchanged.
	Read Generator
	// Reset makes the next Read give the whole list again. Nil if Read always does.
	Reset func()
}

// Parse turns a file's content into tasks; name tells its format.
type Parse func(name string, r io.Reader) ([]rota.Task, error)

// MaxBytes is the most that a file or an answer may have.
const MaxBytes = 256 << 20

// Func is a source of what f gives.
func Func(name string, f Generator) *Source { return &Source{Name: name, Read: f} }

// File is a source of a file that is looked at every so often (zero means each
// second) and read when its time or size has changed.
func File(path string, every time.Duration, parse Parse) *Source {
	if every == 0 {
		every = time.Second
	}
	var last os.FileInfo
	s := &Source{Name: "file:" + path, Every: every, Reset: func() { last = nil }}
	s.Read = func(context.Context) ([]rota.Task, error) {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		if last != nil && os.SameFile(last, info) && last.ModTime().Equal(info.ModTime()) && last.Size() == info.Size() {
			return nil, ErrUnchanged
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		defer func() { _ = f.Close() }()
		tasks, err := parse(path, io.LimitReader(f, MaxBytes))
		if err != nil {
			return nil, err
		}
		last = info
		return tasks, nil
	}
	return s
}

// URL is a source of an HTTP or HTTPS address that is polled every so often
// (zero means 10 s), with the ETag of the last good answer.
func URL(url string, every time.Duration, client *http.Client, parse Parse) *Source {
	if every == 0 {
		every = 10 * time.Second
	}
	if client == nil {
		client = http.DefaultClient
	}
	etag := ""
	s := &Source{Name: url, Every: every, Reset: func() { etag = "" }}
	s.Read = func(ctx context.Context) ([]rota.Task, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		if etag != "" {
			req.Header.Set("If-None-Match", etag)
		}
		res, err := client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		defer func() { _ = res.Body.Close() }()
		switch res.StatusCode {
		case http.StatusNotModified:
			return nil, ErrUnchanged
		case http.StatusOK:
		default:
			return nil, fmt.Errorf("source: %s answers %s", url, res.Status)
		}
		tasks, err := parse(formatOf(req.URL.Path, res.Header.Get("Content-Type")), io.LimitReader(res.Body, MaxBytes))
		if err != nil {
			return nil, fmt.Errorf("source: %s: %w", url, err)
		}
		etag = res.Header.Get("ETag")
		return tasks, nil
	}
	return s
}
