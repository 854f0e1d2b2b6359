package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/bundle"
)

// unpack reads a bundle: its files by name, in what order they are, and its manifest.
func unpack(t *testing.T, b *bundle.Bundle) (files map[string]string, order []string, m bundle.Manifest) {
	t.Helper()
	var out bytes.Buffer
	if err := b.Write(&out, "folder", "v1", time.Unix(1e9, 5)); err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, "folder/")
		if !ok || h.Mode != 0o600 {
			t.Errorf("%s, mode %o", h.Name, h.Mode)
		}
		files[name], order = string(text), append(order, name)
	}
	if err := json.Unmarshal([]byte(files["manifest.json"]), &m); err != nil {
		t.Fatal(err)
	}
	return files, order, m
}

// TestSecrets: what the maker knows to be secret is in no file, however it is written
// there, and no address has its password.
func TestSecrets(t *testing.T) {
	t.Parallel()
	secret := `top"secret<&\`
	b := bundle.New(secret, "abc", "", "password", "password-and-more")
	b.Text("text", []byte("x "+secret+" y http://u:hidden@h:1/?a=hidden password-and-more abc"), "")
	b.JSON("json", map[string]string{"a": secret, "b": "https://u:hidden@h:1"}, "")
	b.Data("data", []byte("\x00"+secret+"\x01password"))
	b.Miss("gone", "get https://u:hidden@h:1: "+secret)
	files, order, m := unpack(t, b)
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		for _, s := range []string{secret, string(quoted[1 : len(quoted)-1]), "hidden", "password", "-and-more"} {
			if name != "README.txt" && strings.Contains(text, s) {
				t.Errorf("%s has %q: %s", name, s, text)
			}
		}
	}
	if !strings.Contains(files["text"], "abc") || !strings.HasPrefix(files["data"], "\x00"+bundle.Redacted+"\x01") {
		t.Errorf("too much is gone: %q", files)
	}
	if want := []string{"README.txt", "manifest.json", "data", "json", "text"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
	if len(m.Files) != 3 || len(m.Missing) != 1 || m.Version != "v1" || m.Created.Unix() != 1e9 {
		t.Errorf("%+v", m)
	}
}

// TestSizes: a file that is too long is cut, and what does not fit any more is missing.
func TestSizes(t *testing.T) {
	t.Parallel()
	const most, total = 100, 800
	b := bundle.New()
	b.Limit(most, total)
	var all sync.WaitGroup
	big := bytes.Repeat([]byte("x"), most+1)
	n := total/most + 2
	for i := range n {
		all.Go(func() { b.Data(fmt.Sprintf("%02d", i), big) })
	}
	all.Wait()
	files, _, m := unpack(t, b)
	if len(m.Files) != n-2 || len(m.Missing) != 2 || len(b.Missing()) != 2 {
		t.Errorf("%d files, %d missing of %d", len(m.Files), len(m.Missing), n)
	}
	for _, f := range m.Files {
		if !f.Cut || f.Bytes != most || len(files[f.Name]) != most {
			t.Errorf("%+v", f)
		}
	}
}

// TestEmpty: a bundle with nothing in it says so.
func TestEmpty(t *testing.T) {
	t.Parallel()
	files, _, _ := unpack(t, bundle.New())
	if !strings.Contains(files["manifest.json"], `"missing": []`) || !strings.Contains(files["README.txt"], "manifest.json") {
		t.Errorf("%q", files)
	}
}
