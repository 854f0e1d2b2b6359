// Package console is the web page of a scheduler: the map of the cluster, its workers,
// tasks, jobs and programs as they are at this moment, why a task is where it is, and
// what a plan would move.
//
// Package api serves its handler at /. It may stand under any prefix, by
// http.StripPrefix. Its sources are in web; what they are built to, in static, is part
// of the binary (make console). The page talks to the API of the same origin only, and
// its content security policy lets it do nothing else. It never knows more than the API
// says.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/packed"
)

//go:embed static
var static embed.FS

// policy lets the page load its own files and call its own origin. No text can become
// markup: the page has no policy of trusted types that would let it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// How long browsers keep a file. The names of assets change with what is in them.
const (
	always  = "public, max-age=31536000, immutable"
	untilIt = "no-cache" // changes: the tag is asked for each time
)

// file is one answer, made at the start.
type file struct {
	body   []byte
	packed func() []byte // by gzip, once it is asked for
	mime   string
	tag    string
	cache  string
}

// Handler returns the handler of the page and its files. Api is where the API's paths
// start, seen from the page: "" if that is beside it, as where package api serves both,
// "../" if the page stands one folder below. Its error is a *rota.FieldError, or a fault
// of the build.
func Handler(api string) (http.Handler, error) {
	if u, err := url.Parse(api); err != nil || u.IsAbs() || u.Host != "" || api != "" && !strings.HasSuffix(u.Path, "/") {
		return nil, &rota.FieldError{Field: "api", Value: api, Want: "a path of the page's own origin that ends in a slash"}
	}
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
		at := strings.TrimPrefix(name, "static")
		cache := untilIt
		if strings.HasPrefix(at, "/assets/") {
			cache = always
		}
		if at == "/index.html" && api != "" {
			body = bytes.Replace(body, []byte(apiHere), []byte(`name="rota-api" content="`+html.EscapeString(api)+`"`), 1)
		}
		files[at] = newFile(body, kind, cache)
		return nil
	})
	if err != nil {
		return nil, err
	}
	files["/"] = files["/index.html"]
	return handler(files), nil
}

// apiHere is what the page says about the API where that is beside it.
const apiHere = `name="rota-api" content="./"`

func newFile(body []byte, kind, cache string) file {
	sum := sha256.Sum256(body)
	return file{
		body: body, mime: kind, cache: cache, tag: hex.EncodeToString(sum[:8]),
		packed: sync.OnceValue(func() []byte {
			var b bytes.Buffer
			w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is one
			_, _ = w.Write(body)                                  // into memory
			_ = w.Close()
			return b.Bytes()
		}),
	}
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
	if r.URL.Path == "" { // /prefix, from which the page's own addresses would lead elsewhere
		asked, _, _ := strings.Cut(r.RequestURI, "?")
		head.Set("Location", "./"+path.Base(asked)+"/")
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
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
	body, tag := f.body, `"`+f.tag+`"`
	head.Set("Vary", "Accept-Encoding")
	small := packed.Takes(r.Header.Values("Accept-Encoding"))
	if small {
		tag = `"` + f.tag + `-gzip"`
	}
	head.Set("ETag", tag)
	head.Set("Cache-Control", f.cache)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if small {
		body = f.packed()
		head.Set("Content-Encoding", "gzip")
	}
	head.Set("Content-Type", f.mime)
	head.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}
