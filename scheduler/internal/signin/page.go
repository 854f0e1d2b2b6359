package signin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
)

// The page is for browsers that come with a one-time code, or back from an issuer; it
// takes a token, too. It needs nothing of the console.
//
//go:embed page
var page embed.FS

// pagePolicy lets the page load its own script and style, and ask its own origin.
const pagePolicy = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src "

type file struct {
	body   []byte
	mime   string
	policy string
}

func pageFiles() (map[string]file, error) {
	html, err := page.ReadFile("page/signin.html")
	if err != nil {
		return nil, fmt.Errorf("signin: %w", err)
	}
	script, err := page.ReadFile("page/signin.js")
	if err != nil {
		return nil, fmt.Errorf("signin: %w", err)
	}
	style, err := styleOf(html)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(style)
	policy := pagePolicy + "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	return map[string]file{
		"/signin":    {html, "text/html; charset=utf-8", policy},
		"/signin.js": {script, "text/javascript; charset=utf-8", policy},
	}, nil
}

func (h *Handler) servePage(_ context.Context, w http.ResponseWriter, r *http.Request) {
	f := h.page[r.URL.Path]
	w.Header().Set("Content-Type", f.mime)
	w.Header().Set("Content-Security-Policy", f.policy)
	w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	_, _ = w.Write(f.body)
}

// styleOf is the text of the only <style> of the page.
func styleOf(html []byte) ([]byte, error) {
	_, rest, ok := bytes.Cut(html, []byte("<style>"))
	style, _, closed := bytes.Cut(rest, []byte("</style>"))
	if !ok || !closed {
		return nil, errors.New("signin: the page has no style")
	}
	return style, nil
}
