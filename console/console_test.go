package console_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/console"
)

// serve is what a handler of the page answers.
func serve(t *testing.T, h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Add(pair[0], pair[1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func handler(t *testing.T, api string) http.Handler {
	t.Helper()
	h, err := console.Handler(api)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var link = regexp.MustCompile(`(?:src|href)="([^"]+)"`)

// links are the files that the page at an address loads, as addresses.
func links(t *testing.T, h http.Handler, at string) (all []string) {
	t.Helper()
	for _, found := range link.FindAllStringSubmatch(serve(t, h, http.MethodGet, at).Body.String(), -1) {
		all = append(all, path.Join(path.Dir(at), found[1]))
	}
	if len(all) < 3 {
		t.Fatalf("the page loads only %q", all)
	}
	return all
}

func TestHandler(t *testing.T) {
	t.Parallel()
	h := handler(t, "")
	type want struct {
		status      int
		mime, cache string
	}
	cases := map[[2]string]want{
		{"GET", "/"}:              {200, "text/html; charset=utf-8", "no-cache"},
		{"HEAD", "/index.html"}:   {200, "text/html; charset=utf-8", "no-cache"},
		{"GET", "/icon.svg"}:      {200, "image/svg+xml", "no-cache"},
		{"GET", "/nope.js"}:       {404, "text/plain; charset=utf-8", ""},
		{"GET", "/assets/"}:       {404, "text/plain; charset=utf-8", ""},
		{"GET", "/../console.go"}: {404, "text/plain; charset=utf-8", ""},
		{"POST", "/"}:             {405, "text/plain; charset=utf-8", ""},
	}
	assets := 0
	for _, at := range links(t, h, "/") {
		if !strings.HasPrefix(at, "/assets/") {
			continue
		}
		assets++
		kind := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}[path.Ext(at)]
		cases[[2]string{"GET", at}] = want{200, kind, "public, max-age=31536000, immutable"}
	}
	if assets < 2 {
		t.Errorf("the page has %d assets", assets)
	}
	for of, want := range cases {
		rec := serve(t, h, of[0], of[1])
		head := rec.Header()
		if got := head.Get("Content-Type"); rec.Code != want.status || got != want.mime || head.Get("Cache-Control") != want.cache {
			t.Errorf("%s: %d %s %q, want %v", of, rec.Code, got, head.Get("Cache-Control"), want)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := head.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %q", of, name, got)
			}
		}
		p := head.Get("Content-Security-Policy")
		if strings.Contains(p, "unsafe") || strings.Contains(p, "*") || strings.Contains(p, ":") || !strings.Contains(p, "require-trusted-types-for 'script'") {
			t.Errorf("the policy %q is weak", p)
		}
		if of[0] == http.MethodHead && rec.Body.Len() != 0 {
			t.Errorf("%s has a body", of)
		}
	}
}

// TestCompressed: what clients take packed comes packed, and is the same; each shape
// has a tag of its own.
func TestCompressed(t *testing.T) {
	t.Parallel()
	h := handler(t, "")
	for _, at := range append(links(t, h, "/"), "/") {
		plain := serve(t, h, http.MethodGet, at)
		for accept, packed := range map[string]bool{
			"gzip": true, "GZIP": true, "br, gzip;q=0.5": true, "x-gzip": true, "*": true, "deflate, *;q=0.1": true,
			"": false, "br": false, "gzip;q=0": false, "gzip;q=0.000, *": false, "gzip;q=x": false, "identity": false, "*;q=0": false, "gzipped": false,
		} {
			rec := serve(t, h, http.MethodGet, at, "Accept-Encoding", accept)
			body, coding := rec.Body.Bytes(), rec.Header().Get("Content-Encoding")
			if packed != (coding == "gzip") {
				t.Errorf("%s for %q is coded %q", at, accept, coding)
				continue
			}
			if packed {
				r, err := gzip.NewReader(rec.Body)
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(body, plain.Body.Bytes()) || rec.Header().Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s for %q: %d bytes, of %d plain; Vary %q", at, accept, len(body), plain.Body.Len(), rec.Header().Get("Vary"))
			}
			tag := rec.Header().Get("ETag")
			if packed == (tag == plain.Header().Get("ETag")) {
				t.Errorf("%s for %q has the tag %s, plain %s", at, accept, tag, plain.Header().Get("ETag"))
			}
			if again := serve(t, h, http.MethodGet, at, "Accept-Encoding", accept, "If-None-Match", tag); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
				t.Errorf("%s again for %q: %d, %d bytes", at, accept, again.Code, again.Body.Len())
			}
		}
	}
}

// TestUnderPrefix: the page's addresses are relative, so that it may stand anywhere.
func TestUnderPrefix(t *testing.T) {
	t.Parallel()
	h := http.StripPrefix("/ops/rota", handler(t, "../v1s&\"api/"))
	for _, at := range links(t, h, "/ops/rota/") {
		if rec := serve(t, h, http.MethodGet, at); !strings.HasPrefix(at, "/ops/rota/") || rec.Code != http.StatusOK {
			t.Errorf("%s: %d", at, rec.Code)
		}
	}
	if body := serve(t, h, http.MethodGet, "/ops/rota/").Body.String(); !strings.Contains(body, `content="../v1s&amp;&#34;api/"`) {
		t.Errorf("the page does not say where the API is: %s", body)
	}
	rec := serve(t, h, http.MethodGet, "/ops/rota?x=1")
	if to := rec.Header().Get("Location"); rec.Code != http.StatusMovedPermanently || to != "./rota/" {
		t.Errorf("the prefix without its slash: %d to %q", rec.Code, to)
	}
}

func TestHandlerRefuses(t *testing.T) {
	t.Parallel()
	for _, api := range []string{"https://elsewhere.test/", "//elsewhere.test/", "v1", "..", "%zz/"} {
		_, err := console.Handler(api)
		var field *rota.FieldError
		if !errors.As(err, &field) || field.Field != "api" {
			t.Errorf("%q: %v", api, err)
		}
	}
}

// read is every file under a folder by name, but for what npm keeps there.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == "node_modules" {
				return fs.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path.Join(dir, name))
		out[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPageKeepsItsPolicy: nothing of the page needs what its policy forbids, asks
// another machine, or makes markup of what the API says.
func TestPageKeepsItsPolicy(t *testing.T) {
	t.Parallel()
	everywhere := regexp.MustCompile(`https?://[^w]|document\.write|\beval\(|new Function\(|<script>|<style| style="| on[a-z]+="`)
	written := regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|srcdoc|javascript:`)
	for name, text := range read(t, "static") {
		if found := everywhere.FindString(text); found != "" {
			t.Errorf("static/%s has %q", name, found)
		}
	}
	sources := read(t, "web/src")
	for name, text := range sources {
		if found := written.FindString(text); found != "" || everywhere.MatchString(text) {
			t.Errorf("web/src/%s has %q%q", name, found, everywhere.FindString(text))
		}
	}
	if len(sources) < 20 {
		t.Errorf("only %d sources were read", len(sources))
	}
}

// TestWeight: the whole page takes no more than 250 KiB on the wire.
func TestWeight(t *testing.T) {
	t.Parallel()
	h := handler(t, "")
	sum := 0
	for name := range read(t, "static") {
		rec := serve(t, h, http.MethodGet, "/"+name, "Accept-Encoding", "gzip")
		if rec.Code != http.StatusOK {
			t.Errorf("%s: %d", name, rec.Code)
		}
		sum += rec.Body.Len()
	}
	if sum > 250<<10 || sum < 1<<10 {
		t.Errorf("the page takes %d bytes", sum)
	}
}
