package policy_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/gatewayfile"
	"github.com/rota-project/rota/compat/olscheduler"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/api/jsonpb"
	"github.com/rota-project/rota/internal/process/words"
	"github.com/rota-project/rota/internal/taskfile"
	"github.com/rota-project/rota/internal/worker/exec"
)

// parser reads a text. For each byte of it, and beside slack, it allocates at most
// perByte bytes and takes at most peak bytes of memory at once.
type parser struct {
	parse         func(t *testing.T, text []byte) error
	size          int // of a hostile text, in bytes
	perByte, peak int
	syntax        []string // which of the shapes are tried; see shapes
}

// slack is what a parser may allocate for nothing, and peakSlack by how much the
// process may grow: the collector leaves up to 4 MiB lie before it runs. In bytes.
const slack, peakSlack = 2 << 20, 6 << 20

// file hands the text over in a file.
func file(name string, load func(t *testing.T, path string) error) func(*testing.T, []byte) error {
	return func(t *testing.T, text []byte) error {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return load(t, path)
	}
}

func configuration(_ *testing.T, path string) error {
	_, o := config.NewScheduler()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.AddFlags(fs)
	if err := fs.Parse([]string{"--config", path}); err != nil {
		return err
	}
	return o.Load(func(string) (string, bool) { return "", false })
}

func tasks(f taskfile.Format) func(*testing.T, []byte) error {
	return func(_ *testing.T, text []byte) error {
		_, err := taskfile.Parse(text, "list", taskfile.Options{Format: f})
		return err
	}
}

var parsers = map[string]parser{
	"configuration, TOML": {file("c.toml", configuration), 256 << 10, 700, 64, []string{"toml", "json", "yaml"}},
	"configuration, YAML": {file("c.yaml", configuration), 256 << 10, 220, 160, []string{"yaml", "json", "toml"}},
	"tasks, YAML":         {tasks(taskfile.YAML), 128 << 10, 280, 200, []string{"yaml", "json"}},
	"tasks, JSON":         {tasks(taskfile.JSON), 256 << 10, 160, 160, []string{"json", "yaml", "tasks"}},
	"tasks, CSV":          {tasks(taskfile.CSV), 256 << 10, 256, 200, []string{"csv", "json"}},
	"gateway.yaml": {func(_ *testing.T, text []byte) error {
		_, err := gatewayfile.Parse(text, ".")
		return err
	}, 128 << 10, 220, 160, []string{"yaml", "gateway", "json"}},
	"olscheduler": {file("o.json", func(_ *testing.T, path string) error {
		_, err := olscheduler.Load(path)
		return err
	}), 256 << 10, 64, 64, []string{"json", "yaml"}},
	"tokens": {file("tokens", func(_ *testing.T, path string) error {
		_, err := auth.OpenTokenFile(path, &auth.Tokens{})
		return err
	}), 256 << 10, 64, 64, []string{"json", "yaml", "csv"}},
	"certificates": {file("ca.crt", func(_ *testing.T, path string) error {
		_, err := pki.Load(pki.Files{CA: path})
		return err
	}), 256 << 10, 64, 64, []string{"pem", "json"}},
	"API": {func(_ *testing.T, text []byte) error { return jsonpb.Unmarshal(text, &rotav1.GetTaskRequest{}) }, 256 << 10, 64, 64, []string{"json"}},
	"command": {func(_ *testing.T, text []byte) error {
		_, err := exec.New(exec.Config{Kind: "k", Command: string(text)})
		return err
	}, 64 << 10, 400, 300, []string{"template", "json"}},
	"words": {func(_ *testing.T, text []byte) error {
		list, err := words.Split(string(text))
		for _, w := range list {
			_, _ = words.Parse(w)
		}
		return err
	}, 256 << 10, 128, 64, []string{"template", "json", "yaml"}},
	"address": {func(_ *testing.T, text []byte) error { _ = address.Text(string(text)); return nil }, 256 << 10, 64, 64, []string{"address", "json"}},
}

// shapes are hostile texts of about n bytes, by syntax: deep, wide, long names,
// many names, aliases, huge numbers.
func shapes(syntax string, n int) map[string]string {
	rep := func(s string) string { return strings.Repeat(s, n/len(s)) }
	each := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	switch syntax {
	case "toml":
		return map[string]string{
			"dotted": rep("a.") + "a=1", "dotted header": "[" + rep("a.") + "a]", "dotted inline": "a={" + rep("a.") + "b=1}", "quoted": rep(`"a".`) + "a=1",
			"wide": each("k%d=1\n"), "list": "a=[" + rep("1,") + "]", "tables": each("[t%d]\n"), "below": each("[t.t%d]\na=1\n"), "same": rep("[[t]]\n"),
			"deep": "a=" + rep("["), "deep inline": "a=" + rep("{a="), "name": rep("k") + "=1", "text": `a="` + rep("x") + `"`, "number": "a=" + rep("9"),
			"comment": rep("#\n"), "inline": "a={" + each("k%d=1,") + "z=1}", "carriage": rep("\r"),
		}
	case "yaml":
		return map[string]string{
			"list": rep("- a\n"), "of keys": each("- k%d: v\n"), "flow": "[" + rep("a,") + "]", "wide": each("k%d: 1\n"), "deep": rep("["), "deep table": rep("{a: "),
			"deep list": rep("- "), "name": rep("k") + ": 1", "text": `a: "` + rep("x") + `"`, "documents": rep("---\na\n"), "aliases": "a: &a b\nl: [" + rep("*a,") + "]",
			"anchors": each("- &a%d b\n"), "number": "a: " + rep("9"), "comment": rep("#\n"), "nothing": rep("-\n"), "questions": rep("? "), "tags": rep("- !a b\n"),
			"block": "a: |\n" + rep(" x\n"), "tasks": "tasks:\n" + each("- id: t%d\n"), "tables": "[" + rep("{},") + "]", "carriage": rep("-\r"),
			"next line": rep("-\u0085"), "line separator": rep("-\u2028"), "indented": rep(" ") + "a",
			"laughs": "a: &a [l,l,l,l,l,l,l,l]\n" + laughs("%c: "), "one comment": "a: 1 #" + rep(" c"), "comments": rep("- a # c\n"), "heads": rep("# c\n- a\n"),
			"long alias": "a: &" + rep("k") + " b\nl: [" + "*" + rep("k") + "]", "document ends": rep("a\n...\n"), "empty documents": rep("---\n"),
		}
	case "gateway": // aliases of what fits
		return map[string]string{
			"texts":     "hosts:\n- &a a\n" + rep("- *a\n"),
			"workers":   "workers:\n- &a {url: http://a, functions: [f,f,f,f,f,f,f,f]}\n" + rep("- *a\n"),
			"lists":     "hosts: &a [" + strings.Repeat("f,", 1000) + "]\nfunctions:\n" + each("  f%d: {packages: *a}\n"),
			"functions": "defaults: &a {}\nfunctions:\n" + each("  f%d: *a\n"),
			"anything":  "listen:\n- &a [l,l,l,l,l,l,l,l]\n" + laughs("- "),
		}
	case "json":
		return map[string]string{
			"list": "[" + rep("1,") + "1]", "wide": "{" + each(`"k%d":1,`) + `"z":1}`, "tables": "[" + rep("{},") + "{}]", "deep": rep("["), "deep table": rep(`{"a":`),
			"text": `"` + rep("x") + `"`, "name": `{"` + rep("k") + `":1}`, "number": rep("9"), "exponent": "1e" + rep("9"), "values": rep("1 "),
			"escapes": `"` + rep(`\u0041`) + `"`, "nulls": "[" + rep("null,") + "null]", "same": "{" + rep(`"a":1,`) + `"a":1}`,
		}
	case "tasks":
		return map[string]string{
			"list": "[" + each(`{"id":"t%d"},`) + `{"id":"z"}]`, "lines": each(`{"id":"t%d"}` + "\n"), "table": `{"tasks":[` + each(`{"id":"t%d"},`) + `{"id":"z"}]}`,
			"one": `{"id":"a","require":[` + rep(`"x",`) + `"x"]}`, "inner": `[{"id":"a","require":[` + rep(`"x",`) + `"x"]}]`,
		}
	case "csv":
		return map[string]string{
			"columns": rep("a,"), "wide": "id\n" + rep(","), "lines": "id\n" + each("t%d\n"), "quotes": "id\n" + rep(`"`), "open": "id\n\"" + rep("x"),
			"cells": "id,resources\na,\"[" + rep("1,") + "1]\"", "empty": rep("\n"), "named": each("c%d,"),
		}
	case "pem":
		return map[string]string{
			"begins": rep("-----BEGIN CERTIFICATE-----\n"), "empty": rep("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
			"long": "-----BEGIN CERTIFICATE-----\n" + rep("A") + "\n-----END CERTIFICATE-----\n", "headers": "-----BEGIN X-----\n" + each("h%d: v\n") + "\n-----END X-----\n",
		}
	case "template":
		return map[string]string{
			"deep": "a " + "'{{" + rep("(") + "'", "ifs": "a '" + rep("{{if .ID}}") + "'", "fields": "a " + rep("{{.ID}}"), "words": rep("a "), "quotes": rep(`''`),
			"choices": "a {ID:one(" + rep("a|") + ")}", "parameters": "a " + rep("{ID:word} "), "braces": "a " + rep("{"), "backslashes": rep(`\a`),
		}
	case "address":
		return map[string]string{
			"schemes": rep("a://"), "at": "a://" + rep("@"), "colons": "a://" + rep(":"), "query": "a://b?" + rep("a=b&"), "list": rep("a://u:p@h,"),
			"words": rep("a@ "), "slashes": rep("://"), "hash": "a://" + rep("#@:"), "bare": rep("a:b@"),
		}
	}
	return nil
}

// laughs are aliases of aliases, a billion values in all, each line begun with name.
func laughs(name string) string {
	var b strings.Builder
	for c := 'b'; c <= 'k'; c++ {
		b.WriteString(strings.ReplaceAll(name, "%c", string(c)))
		fmt.Fprintf(&b, "&%c [%s]\n", c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	return b.String()
}

// TestParsersAreProportional: no text makes a parser allocate more than a stated
// number of bytes for each of its own, nor take more than a stated number at once, the
// stacks of parsers that call themselves included, and twice the text takes no more
// than about twice as much. It counts bytes, not time; what takes time by the square
// without memory would end the test by its timeout.
func TestParsersAreProportional(t *testing.T) {
	for name, p := range parsers { //nolint:paralleltest // it counts what is allocated
		for _, syntax := range p.syntax {
			for _, size := range []int{8 << 10, p.size} { // below the limits, and at or above them
				for shape, text := range shapes(syntax, size) {
					data := bytes.Clone([]byte(text))
					var before, after runtime.MemStats
					var err error
					parse := func() {
						runtime.ReadMemStats(&before)
						err = p.parse(t, data)
						runtime.ReadMemStats(&after)
					}
					most := 0
					if syntax == p.syntax[0] || syntax == "gateway" { // other languages are refused at their first words
						most = peak(t, parse)
					} else {
						parse()
					}
					if want := p.peak*len(data) + peakSlack; most > want {
						t.Errorf("%s: %s %s of %d bytes: grows by %d bytes for each, want at most %d (%v)", name, syntax, shape, len(data), most/len(data), p.peak, clip(err))
					}
					got := int(after.TotalAlloc - before.TotalAlloc)
					if most := p.perByte*len(data) + slack; got > most {
						t.Errorf("%s: %s %s of %d bytes: %d bytes for each, want at most %d (%v)", name, syntax, shape, len(data), got/len(data), p.perByte, clip(err))
					}
					if err != nil && len(err.Error()) > 4096 {
						t.Errorf("%s: %s %s: an error of %d bytes", name, syntax, shape, len(err.Error()))
					}
				}
			}
		}
	}
}

func clip(err error) string {
	s := fmt.Sprint(err)
	return s[:min(len(s), 100)]
}
