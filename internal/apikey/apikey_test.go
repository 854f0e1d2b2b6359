package apikey_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/apikey"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	keys := map[string]string{}
	for i := range 50 {
		key := apikey.New()
		name := fmt.Sprintf("user-%d", i/2)
		keys[key] = name
		fmt.Fprintf(&file, "# %d\n\n  %s\t%s \r\n", i, name, strings.ToUpper(apikey.HashOf([]byte(key)).String()))
	}
	names, err := apikey.Parse([]byte(file.String()))
	if err != nil || len(names) != 50 || len(keys) != 50 {
		t.Fatal(len(names), err)
	}
	for key, want := range keys {
		if got, ok := names.Name([]byte(key)); !ok || got != want {
			t.Errorf("%s: %q", want, got)
		}
		for _, other := range []string{"", key + "x", key[1:], strings.ToUpper(key), apikey.HashOf([]byte(key)).String(), want} {
			if name, ok := names.Name([]byte(other)); ok && other != key {
				t.Errorf("%q is %s's", other, name)
			}
		}
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	h := apikey.HashOf(nil).String()
	for text, want := range map[string]string{
		"": "at least one key", "# a " + h: "at least one key", "a": "line 1", "\na " + h + " b": "line 2", "a " + h[1:]: "line 1", "a x" + h[1:]: "line 1", h: "line 1",
		"a/b " + h: "line 1", strings.Repeat("a", 65) + " " + h: "line 1", "a " + h + "\nb " + h: "line 2: this key is a's already", strings.Repeat("a", 1<<20): "too long",
	} {
		if _, err := apikey.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), h) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a " + apikey.HashOf(nil).String()))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := apikey.Parse(b)
		if (err == nil) != (len(names) > 0) {
			t.Errorf("%d keys, %v", len(names), err)
		}
	})
}

func BenchmarkName(b *testing.B) {
	s := apikey.Set{}
	for range 10_000 {
		s[apikey.HashOf([]byte(apikey.New()))] = "a"
	}
	for b.Loop() {
		s.Name([]byte("a key that is not known"))
	}
}
