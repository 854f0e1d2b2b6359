package linedoc

import (
	"strings"
	"testing"
)

// TestYAMLOnOneLine: what the library would read by the square is refused, with the
// line, and JSON, which is YAML on one line, is read, as the same values.
func TestYAMLOnOneLine(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"flow": "x:\n  [" + strings.Repeat("a,", 2000) + "a]", "tables": "x:\n  [" + strings.Repeat("{},", 2000) + "{}]",
		"lists": "x:\n  " + strings.Repeat("- ", 2000) + "a", "names": "x:\n  " + strings.Repeat("? ", 2000) + "a",
	} {
		if _, err := YAML([]byte(text), 0); err == nil || !strings.HasPrefix(err.Error(), "line 2: more than") && !strings.Contains(err.Error(), "on one line") {
			t.Errorf("%s: %v", name, err)
		}
	}
	const many = 10_000
	docs, err := YAML([]byte(" ["+strings.Repeat(`{"id":"a","n":1.5,"on":true,"no":null},`, many)+`{"id":"z"}]`), 0)
	if err != nil || len(docs) != 1 || len(docs[0].Items) != many+1 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	want, err := YAML([]byte(`- {id: "a", n: 1.5, on: true, no: null}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	got, of := docs[0].Items[0].Fields, want[0].Items[0].Fields
	for i := range of {
		g, w := got[i], of[i]
		if g.Name != w.Name || g.Value.Kind != w.Value.Kind || w.Value.Kind != String && g.Value.Plain != w.Value.Plain || g.Value.Num != w.Value.Num || g.Value.Bool != w.Value.Bool || g.Value.Text != w.Value.Text {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
	if _, err := YAML([]byte(`{"a":1,"a":2}`), 0); err == nil {
		t.Error("a name twice is taken")
	}
}
