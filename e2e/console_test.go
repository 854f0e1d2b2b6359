package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// browser is a real browser, told what to do over a pipe.
type browser struct {
	to   io.Writer
	from *bufio.Reader
	last int
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
	if err := from.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil { // of all that is done with it
		t.Fatal(err)
	}
	return &browser{to: to, from: bufio.NewReader(from)}
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
	for {
		msg, err := b.from.ReadBytes(0)
		if err != nil {
			t.Fatalf("%s: the browser says nothing: %v", method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
		}
		if err := json.Unmarshal(bytes.TrimSuffix(msg, []byte{0}), &answer); err != nil {
			t.Fatalf("%s: %v in %.300q", method, err, msg)
		}
		if answer.ID != b.last {
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

// open opens a page in a tab of its own.
func (b *browser) open(t *testing.T, url string) (tab string) {
	t.Helper()
	var target struct{ TargetID string }
	if err := b.do(t, "", "Target.createTarget", map[string]any{"url": url}, &target); err != nil {
		t.Fatal(err)
	}
	var session struct{ SessionID string }
	if err := b.do(t, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session); err != nil {
		t.Fatal(err)
	}
	return session.SessionID
}

// look evaluates an expression whose value is text. A page that is not there yet, or
// just gives way to another, has none: what the browser says then is no such value.
func (b *browser) look(t *testing.T, tab, expression string) string {
	t.Helper()
	var r struct{ Result struct{ Value string } }
	if err := b.do(t, tab, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r); err != nil {
		return err.Error()
	}
	return r.Result.Value
}

// TestConsoleInBrowser: the address that rota dev prints opens the console, live,
// in a real browser; without the token the page asks for one.
func TestConsoleInBrowser(t *testing.T) {
	t.Parallel()
	program(t, "chromium")
	dir := passable(t)
	d := start(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, rotaBin, "dev", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--workers", "1")
	address := d.find(t, `console   (http://\S+)`, 60*time.Second)[1]
	d.find(t, `Ctrl-C`, 60*time.Second)
	plain, _, _ := strings.Cut(address, "#")
	b := browse(t, filepath.Join(dir, "profile"))
	// The page draws after what it heard: each state is awaited, not given a time.
	const now = `(document.querySelector("#link")?.className ?? "") + ", sign-in " + (document.querySelector("#sign-in")?.hidden ? "hidden" : "shown") + ", " + location.href`
	for url, want := range map[string]string{
		address:                 fmt.Sprintf("link live, sign-in hidden, %s", plain),
		plain:                   fmt.Sprintf("link dead, sign-in shown, %s", plain),
		plain + "#token=rota_x": fmt.Sprintf("link dead, sign-in shown, %s", plain),
	} {
		tab := b.open(t, url)
		await(t, 2*time.Minute, "the page of "+url+" says "+want, func() bool { return b.look(t, tab, now) == want })
	}
}
