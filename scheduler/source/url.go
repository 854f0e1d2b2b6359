package source

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/address"
)

// URL is a source of an HTTP or HTTPS address that is polled every so often
// (zero means 10 s), with the ETag of the last good answer. Its name and its
// errors show the address without its secrets. A nil client is one with Access{}.
func URL(url string, every time.Duration, client *http.Client, parse Parse) *Source {
	if every == 0 {
		every = 10 * time.Second
	}
	if client == nil {
		client = http.DefaultClient
	}
	var tag atomic.Pointer[string]
	s := &Source{Name: address.Show(url), Every: every, Reset: func() { tag.Store(nil) }}
	s.Read = func(ctx context.Context) ([]rota.Task, error) {
		tasks, err := ask(ctx, url, client, &tag, parse)
		return tasks, address.Error(err)
	}
	return s
}

// ask is one request.
func ask(ctx context.Context, url string, client *http.Client, tag *atomic.Pointer[string], parse Parse) ([]rota.Task, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	etag := tag.Load()
	if etag != nil {
		req.Header.Set("If-None-Match", *etag)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode == http.StatusNotModified && etag != nil:
		return nil, ErrUnchanged
	case res.StatusCode == http.StatusOK:
	default:
		return nil, fmt.Errorf("source: %s answers %s", url, res.Status)
	}
	tasks, err := parse(formatOf(req.URL.Path, res.Header.Get("Content-Type")), &bounded{res.Body, MaxBytes})
	if err != nil {
		return nil, fmt.Errorf("source: %s: %w", url, err)
	}
	tag.Store(nil)
	if fresh := res.Header.Get("ETag"); fresh != "" {
		tag.Store(&fresh)
	}
	return tasks, nil
}
