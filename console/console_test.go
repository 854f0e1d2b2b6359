package console_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/console"
)

func get(t *testing.T, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := console.Handler()
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func TestHandler(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, path string
		status       int
		mime         string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/index.html", 200, "text/html; charset=utf-8"},
		{"GET", "/main.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/style.css", 200, "text/css; charset=utf-8"},
		{"GET", "/icon.svg", 200, "image/svg+xml"},
		{"GET", "/nope.js", 404, "text/plain; charset=utf-8"},
		{"GET", "/../console.go", 404, "text/plain; charset=utf-8"},
		{"POST", "/", 405, "text/plain; charset=utf-8"},
	} {
		rec := get(t, c.method, c.path)
		if rec.Code != c.status || rec.Header().Get("Content-Type") != c.mime {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, rec.Code, rec.Header().Get("Content-Type"), c.status, c.mime)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := rec.Header().Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s: %s is %q", c.method, c.path, name, got)
			}
		}
		if p := rec.Header().Get("Content-Security-Policy"); strings.Contains(p, "unsafe") || strings.Contains(p, "*") {
			t.Errorf("the policy %q is weak", p)
		}
	}
	tag := get(t, "GET", "/").Header().Get("ETag")
	if rec := get(t, "GET", "/", "If-None-Match", tag); tag == "" || rec.Code != http.StatusNotModified || rec.Body.Len() != 0 {
		t.Errorf("the same page again: %d, %d bytes, tag %s", rec.Code, rec.Body.Len(), tag)
	}
}

// files are the sources of the page by name.
func files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	dir := os.DirFS("static")
	names, err := fs.Glob(dir, "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(text)
	}
	return out
}

// TestPageKeepsItsPolicy: nothing of the page needs what its policy forbids, or
// another machine, or makes markup of what the API says.
func TestPageKeepsItsPolicy(t *testing.T) {
	t.Parallel()
	forbidden := regexp.MustCompile(`https?://[^w]|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function| style="| on[a-z]+="|<style`)
	for name, text := range files(t) {
		if found := forbidden.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
}

// TestPageIsWhole: what the scripts look up and import is there.
func TestPageIsWhole(t *testing.T) {
	t.Parallel()
	all := files(t)
	page := all["index.html"]
	lookups := 0
	for name, text := range all {
		for _, found := range regexp.MustCompile(`\$\("([^"]+)"\)`).FindAllStringSubmatch(text, -1) {
			lookups++
			if !strings.Contains(page, fmt.Sprintf("id=%q", found[1])) {
				t.Errorf("%s looks up %q, which the page has not", name, found[1])
			}
		}
		for _, found := range regexp.MustCompile(`(?:from|src=|href=) ?"\.?/?([a-z]+\.(?:js|css|svg))"`).FindAllStringSubmatch(text, -1) {
			if _, there := all[found[1]]; !there {
				t.Errorf("%s wants %q, which is not there", name, found[1])
			}
		}
	}
	if lookups < 20 {
		t.Errorf("only %d lookups were checked", lookups)
	}
}
