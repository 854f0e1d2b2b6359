//go:build unix

// Package chromium is a real headless browser that tests and measurements of the console
// tell what to do, over a pipe, by the DevTools protocol. No product code may call it.
package chromium

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// patience is how long an answer of the browser may take.
const patience = 5 * time.Minute

// Browser is a running browser. One goroutine at a time may tell it what to do.
type Browser struct {
	// Heard is called with what the browser tells unasked, while it is asked something.
	// Nil: nobody listens.
	Heard func(event string, params json.RawMessage)

	cmd  *exec.Cmd
	to   *os.File
	pipe *os.File
	from *bufio.Reader
	log  bytes.Buffer
	last int
}

// Start starts the program at path with a profile of its own in a folder. Close ends it.
func Start(path, profile string) (*Browser, error) {
	b := &Browser{}
	//nolint:gosec // the browser that a test names
	b.cmd = exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+profile, "--remote-debugging-pipe")
	hears, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	from, says, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, hears.Close(), to.Close())
	}
	b.cmd.Stdout, b.cmd.Stderr, b.cmd.ExtraFiles = &b.log, &b.log, []*os.File{hears, says} // 3 and 4
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = b.cmd.Start()
	_, _ = hears.Close(), says.Close()
	if err != nil {
		return nil, errors.Join(err, to.Close(), from.Close())
	}
	b.to, b.pipe, b.from = to, from, bufio.NewReader(from)
	return b, nil
}

// Close ends the browser and all its processes, and answers what it has logged.
func (b *Browser) Close() (log string) {
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	_ = b.cmd.Wait() // it was killed
	_, _ = b.to.Close(), b.pipe.Close()
	return b.log.String()
}

// RefusedError is why the browser did not do something.
type RefusedError struct{ Method, Text string }

func (e *RefusedError) Error() string { return e.Method + ": " + e.Text }

// Do gives a command, of a tab where it has one, and reads the result into out. The
// error is a *RefusedError if the browser did not do it; any other means that it is gone.
func (b *Browser) Do(tab, method string, params map[string]any, out any) error {
	b.last++
	msg, err := json.Marshal(struct {
		ID     int            `json:"id"`
		Tab    string         `json:"sessionId,omitempty"`
		Method string         `json:"method"`
		Params map[string]any `json:"params"`
	}{b.last, tab, method, params})
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if _, err := b.to.Write(append(msg, 0)); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if err := b.pipe.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	for {
		msg, err := b.from.ReadBytes(0)
		if err != nil {
			return fmt.Errorf("%s: the browser says nothing: %w", method, err)
		}
		var answer struct {
			ID     int             `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(bytes.TrimSuffix(msg, []byte{0}), &answer); err != nil {
			return fmt.Errorf("%s: %w in %.300q", method, err, msg)
		}
		if answer.ID != b.last {
			if b.Heard != nil {
				b.Heard(answer.Method, answer.Params)
			}
			continue
		}
		if answer.Error != nil {
			return &RefusedError{method, string(answer.Error)}
		}
		if err := json.Unmarshal(answer.Result, out); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		return nil
	}
}

// Open opens a page in a tab that shares nothing with the others.
func (b *Browser) Open(url string) (tab string, err error) {
	var alone struct{ BrowserContextID string }
	if err := b.Do("", "Target.createBrowserContext", map[string]any{}, &alone); err != nil {
		return "", err
	}
	var target struct{ TargetID string }
	if err := b.Do("", "Target.createTarget", map[string]any{"url": url, "browserContextId": alone.BrowserContextID}, &target); err != nil {
		return "", err
	}
	var session struct{ SessionID string }
	err = b.Do("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	return session.SessionID, err
}

// Processes are the ids of the browser's processes of a type: "browser", "renderer", "GPU".
func (b *Browser) Processes(of string) (pids []int, err error) {
	var all struct {
		ProcessInfo []struct {
			Type string
			ID   int
		}
	}
	if err := b.Do("", "SystemInfo.getProcessInfo", map[string]any{}, &all); err != nil {
		return nil, err
	}
	for _, p := range all.ProcessInfo {
		if p.Type == of {
			pids = append(pids, p.ID)
		}
	}
	return pids, nil
}
