package source

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/wholefile"
	"github.com/rota-project/rota/pki"
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

// Access is what a list's server wants of those who ask for it. Files are read
// again for each request, so a new token or authority holds at once.
type Access struct {
	// Headers are sent along, and to the address's own host only.
	Headers map[string]string
	// TokenFile has a token that is sent as "Authorization: Bearer ...", over TLS
	// or to this machine only.
	TokenFile string
	// CAFile has the certificates that the server's is checked by, PEM. Empty means
	// the system's.
	CAFile string
}

// Client is an HTTP client with that access. With headers or a token it follows no
// redirect to another host. The error is a *rota.FieldError or of a file that cannot be read.
func (a Access) Client() (*http.Client, error) {
	for name, value := range a.Headers {
		if name == "" || strings.ContainsFunc(name, notToken) || strings.ContainsAny(value, "\r\n\x00") {
			return nil, &rota.FieldError{Field: "tasks_headers", Value: name, Want: "NAME=VALUE of an HTTP header"}
		}
	}
	if _, err := a.token(); err != nil {
		return nil, err
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute}
	if a.CAFile != "" {
		src, err := pki.Load(pki.Files{CA: a.CAFile})
		if err != nil {
			return nil, fmt.Errorf("tasks_ca: %w", err)
		}
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: src.Client("", "http/1.1")}).DialContext(ctx, network, addr)
		}
	}
	return &http.Client{
		Transport: &access{a, t},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			first := before[0].URL
			elsewhere := next.URL.Host != first.Host || next.URL.Scheme != first.Scheme
			if elsewhere && (len(a.Headers) > 0 || a.TokenFile != "") || len(before) > 9 {
				return errors.New("redirected elsewhere: give that address itself")
			}
			return nil
		},
	}, nil
}

func notToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// token reads the file.
func (a Access) token() (auth.Secret, error) {
	if a.TokenFile == "" {
		return "", nil
	}
	b, err := wholefile.Read(a.TokenFile, wholefile.Most)
	if err != nil {
		return "", fmt.Errorf("tasks_token_file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("tasks_token_file: %s: want one token and nothing else", a.TokenFile)
	}
	return auth.Secret(token), nil
}

type access struct {
	a    Access
	next http.RoundTripper
}

// RoundTrip adds the headers and the token.
func (t *access) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range t.a.Headers {
		r.Header.Set(name, value)
	}
	token, err := t.a.token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		if r.URL.Scheme != "https" && !auth.Loopback(r.URL.Host) {
			return nil, auth.ErrNoTLS
		}
		r.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	return t.next.RoundTrip(r)
}
