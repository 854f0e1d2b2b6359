package source

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/secretfile"
)

// Access is what a list's server wants of those who ask for it. Files are read
// again for each request, so a new token, header or authority holds at once. Those
// with secrets are read as package secretfile does.
type Access struct {
	// HeadersFile has headers to send along, "Name: value", one a line; empty lines and
	// those that begin with # are left out. They are sent to the address's own host
	// only, over TLS or to this machine.
	HeadersFile string
	// TokenFile has a token that is sent as "Authorization: Bearer ...", on the same
	// conditions.
	TokenFile string
	// CAFile has the certificates that the server's is checked by, PEM. Empty means
	// the system's.
	CAFile string
	// CertFile and KeyFile are the certificate that is shown to the server, PEM.
	CertFile, KeyFile string
}

// Client is an HTTP client with that access. If it shows anything it follows no
// redirect to another host. The error names the field, tasks_headers_file and so on.
func (a Access) Client() (*http.Client, error) {
	if _, err := a.header(); err != nil {
		return nil, err
	}
	// A connection of its own for each request: one that is kept would go on with the
	// authority and the certificate that it was opened with.
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, DisableKeepAlives: true}
	if a.CAFile != "" || a.CertFile != "" || a.KeyFile != "" {
		src, err := pki.Load(pki.Files{CA: a.CAFile, Cert: a.CertFile, Key: a.KeyFile})
		if err != nil {
			return nil, fmt.Errorf("tasks_ca, tasks_cert, tasks_key: %w", err)
		}
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: src.Client("", "http/1.1")}).DialContext(ctx, network, addr)
		}
	}
	const most = 9 // redirects
	return &http.Client{
		Transport: &access{a, t},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			first := before[0].URL
			elsewhere := next.URL.Host != first.Host || next.URL.Scheme != first.Scheme
			switch {
			case elsewhere && a.shows():
				return errors.New("redirected to another host: give that address directly")
			case len(before) > most:
				return fmt.Errorf("redirected more than %d times", most)
			}
			return nil
		},
	}, nil
}

// shows reports whether a server learns something that is not for everybody.
func (a Access) shows() bool { return a.HeadersFile+a.TokenFile+a.CertFile != "" }

// header is what is sent along now.
func (a Access) header() (http.Header, error) {
	h := http.Header{}
	if a.HeadersFile != "" {
		b, err := secret("tasks_headers_file", a.HeadersFile)
		if err != nil {
			return nil, err
		}
		if h, err = secretfile.Headers(a.HeadersFile, b); err != nil {
			return nil, fmt.Errorf("tasks_headers_file: %w", err)
		}
	}
	if a.TokenFile != "" {
		b, err := secret("tasks_token_file", a.TokenFile)
		if err != nil {
			return nil, err
		}
		token := strings.TrimSpace(string(b))
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("tasks_token_file: %s: want one token and nothing else", a.TokenFile)
		}
		h.Set("Authorization", "Bearer "+token)
	}
	return h, nil
}

// secret reads a file that will be read again: a pipe has nothing to say twice.
func secret(field, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil {
		err = regular(path, info)
	}
	var b []byte
	if err == nil {
		b, err = secretfile.Read(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return b, nil
}

type access struct {
	a    Access
	next http.RoundTripper
}

// RoundTrip adds the headers and the token.
func (t *access) RoundTrip(r *http.Request) (*http.Response, error) {
	header, err := t.a.header()
	if err != nil {
		return nil, err
	}
	if len(header) > 0 && r.URL.Scheme != "https" && !auth.Loopback(r.URL.Host) {
		return nil, auth.ErrNoTLS
	}
	r = r.Clone(r.Context())
	for name, values := range header {
		r.Header[name] = values
	}
	r.Host = cmp.Or(header.Get("Host"), r.Host)
	return t.next.RoundTrip(r)
}
