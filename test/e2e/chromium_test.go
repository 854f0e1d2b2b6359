//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/rota-project/rota/internal/test/chromium"
)

// browser is a real browser, told what to do over a pipe.
type browser struct {
	*chromium.Browser
	ill []string // what pages have complained about
}

// browse starts a browser that ends with the test.
func browse(t *testing.T, profile string) *browser {
	t.Helper()
	found, err := chromium.Start(program(t, "chromium"), profile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if log := found.Close(); t.Failed() {
			t.Logf("chromium:\n%s", log)
		}
	})
	b := &browser{Browser: found}
	found.Heard = b.hear
	return b
}

// do gives a command, of a tab where it has one, and reads the result into out. The
// error is why the browser did not do it. What it tells otherwise is left out.
func (b *browser) do(t *testing.T, tab, method string, params map[string]any, out any) error {
	t.Helper()
	err := b.Do(tab, method, params, out)
	if refused := (*chromium.RefusedError)(nil); err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return err
}

// hear keeps what a page complains about: exceptions, errors that it or the browser
// writes on the console.
func (b *browser) hear(event string, params json.RawMessage) {
	switch event {
	case "Runtime.exceptionThrown":
		b.ill = append(b.ill, string(params))
	case "Runtime.consoleAPICalled", "Log.entryAdded":
		var p struct {
			Type  string
			Entry struct{ Level string }
		}
		if err := json.Unmarshal(params, &p); err != nil || p.Type == "error" || p.Type == "warning" || p.Entry.Level == "error" {
			b.ill = append(b.ill, string(params))
		}
	}
}

// complaints are those since the last time.
func (b *browser) complaints() []string {
	list := b.ill
	b.ill = nil
	return list
}

// open opens a page in a tab that shares nothing with the others.
func (b *browser) open(t *testing.T, url string) (tab string) {
	t.Helper()
	tab, err := b.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// look evaluates an expression; a value that is no text is none. A page that is not there yet, or
// just gives way to another, has none: what the browser says then is no such value.
func (b *browser) look(t *testing.T, tab, expression string) string {
	t.Helper()
	var r struct{ Result struct{ Value any } }
	if err := b.do(t, tab, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r); err != nil {
		return err.Error()
	}
	text, _ := r.Result.Value.(string)
	return text
}
