package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// browser is a real browser, told what to do over a pipe.
type browser struct {
	to   io.Writer
	from *bufio.Reader
	pipe *os.File // of from
	last int
	ill  []string // what pages have complained about
}

// browse starts a browser that ends with the test.
func browse(t *testing.T, profile string) *browser {
	t.Helper()
	cmd := exec.Command(program(t, "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+profile, "--remote-debugging-pipe")
	hears, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &log, &log, []*os.File{hears, says} // 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	_, _ = hears.Close(), says.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_, _ = to.Close(), from.Close()
		if t.Failed() {
			t.Logf("chromium:\n%s", log.String())
		}
	})
	return &browser{to: to, from: bufio.NewReader(from), pipe: from}
}

// do gives a command, of a tab where it has one, and reads the result into out. The
// error is why the browser did not do it. What it tells otherwise is left out.
func (b *browser) do(t *testing.T, tab, method string, params map[string]any, out any) error {
	t.Helper()
	b.last++
	msg, err := json.Marshal(struct {
		ID     int            `json:"id"`
		Tab    string         `json:"sessionId,omitempty"`
		Method string         `json:"method"`
		Params map[string]any `json:"params"`
	}{b.last, tab, method, params})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.to.Write(append(msg, 0)); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	if err := b.pipe.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := b.from.ReadBytes(0)
		if err != nil {
			t.Fatalf("%s: the browser says nothing: %v", method, err)
		}
		var answer struct {
			ID            int
			Method        string
			Params        json.RawMessage
			Result, Error json.RawMessage
		}
		if err := json.Unmarshal(bytes.TrimSuffix(msg, []byte{0}), &answer); err != nil {
			t.Fatalf("%s: %v in %.300q", method, err, msg)
		}
		if answer.ID != b.last {
			b.hear(answer.Method, answer.Params)
			continue
		}
		if answer.Error != nil {
			return fmt.Errorf("%s: %s", method, answer.Error)
		}
		if err := json.Unmarshal(answer.Result, out); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		return nil
	}
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
	var alone struct{ BrowserContextID string }
	if err := b.do(t, "", "Target.createBrowserContext", map[string]any{}, &alone); err != nil {
		t.Fatal(err)
	}
	var target struct{ TargetID string }
	if err := b.do(t, "", "Target.createTarget", map[string]any{"url": url, "browserContextId": alone.BrowserContextID}, &target); err != nil {
		t.Fatal(err)
	}
	var session struct{ SessionID string }
	if err := b.do(t, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session); err != nil {
		t.Fatal(err)
	}
	return session.SessionID
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
