// Package console is the web page of a scheduler: the cluster, its workers and
// tasks as they are at this moment, why a task is where it is, what a plan would
// move, and buttons to cordon and drain.
//
// Package api serves its handler at /. The page is a few static files that are
// part of the binary; it talks to the API of the same origin only, and its
// content security policy lets it do nothing else. It never knows more than the
// API says.
package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
)

//go:embed static
var static embed.FS

// policy lets the page load its own files and call its own origin.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is one answer, made at the start.
type file struct {
	body []byte
	mime string
	tag  string
}

// Handler returns the handler of the page and its files. Its error can only be
// a fault of the build.
func Handler() (http.Handler, error) {
	files := map[string]file{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		kind := types[path.Ext(name)]
		if kind == "" {
			return fmt.Errorf("%s: no content type for it", name)
		}
		sum := sha256.Sum256(body)
		files["/"+path.Base(name)] = file{body, kind, `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	if err != nil {
		return nil, err
	}
	files["/"] = files["/index.html"]
	return handler(files), nil
}

// types does not leave it to the machine what a script is.
var types = map[string]string{
	".html": mime.FormatMediaType("text/html", map[string]string{"charset": "utf-8"}),
	".css":  mime.FormatMediaType("text/css", map[string]string{"charset": "utf-8"}),
	".js":   mime.FormatMediaType("text/javascript", map[string]string{"charset": "utf-8"}),
	".svg":  "image/svg+xml",
}

type handler map[string]file

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", policy)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	f, ok := h[r.URL.Path]
	if !ok {
		http.Error(w, "nothing is at "+r.URL.Path, http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, r.Method+" is not possible here", http.StatusMethodNotAllowed)
		return
	}
	head.Set("Content-Type", f.mime)
	head.Set("ETag", f.tag)
	head.Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(f.body)
}
