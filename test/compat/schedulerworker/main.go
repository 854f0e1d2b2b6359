//go:build unix

// Command schedulerworker runs the scheduler and the worker of a checkout of
// scheduler-worker-grpc, which its user has built, each against rota in the place of
// the other. README.md says how; people and CI run it by
// test/compat/schedulerworker/run.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

const (
	variable = "ROTA_COMPAT_SCHEDULERWORKER"
	limit    = 3 * time.Minute  // of all
	patience = 30 * time.Second // of each step
	calls    = "http://127.0.0.1:3000"
	grpcAddr = "127.0.0.1:50000"
	jobsAddr = "127.0.0.1:30000"
)

// unusable is why the checkout cannot be used.
type unusable struct{ why string }

func (u *unusable) Error() string { return u.why }

func main() {
	failed, err := run(os.Getenv(variable), os.Args[len(os.Args)-1])
	var u *unusable
	switch {
	case errors.As(err, &u):
		fmt.Fprintln(os.Stderr, "schedulerworker:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "schedulerworker:", err)
		os.Exit(1)
	case failed:
		os.Exit(1)
	}
}

func run(checkout, rota string) (failed bool, err error) {
	old := map[string]string{}
	for _, name := range []string{"scheduler", "worker"} {
		if old[name], err = executable(checkout, name); err != nil {
			return false, err
		}
	}
	dir, err := os.MkdirTemp("", "schedulerworker-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer func() { err = errors.Join(err, w.Flush()) }()
	for _, pair := range []struct {
		name string
		try  func(*bench) error
	}{{"the old worker with rota's scheduler", oldWorker}, {"rota's worker with the old scheduler", oldScheduler}} {
		if err := portsAreFree(ctx); err != nil {
			return failed, err
		}
		b := &bench{ctx: ctx, rota: rota, old: old, checkout: checkout, dir: filepath.Join(dir, fmt.Sprint(len(pair.name)))}
		err := errors.Join(b.files(), b.then(pair.try))
		b.end()
		b.say = append(b.say, row{pair.name, err})
		for _, r := range b.say {
			how, why := "ok", ""
			if r.err != nil {
				how, why, failed = "FAIL", strings.Join(strings.Fields(r.err.Error()), " "), true
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", how, r.name, why) // Flush says what failed
		}
	}
	return failed, nil
}

// executable finds a program in the checkout.
func executable(checkout, name string) (found string, err error) {
	if checkout == "" {
		return "", &unusable{variable + ": want a checkout in which the scheduler and the worker are built"}
	}
	err = filepath.WalkDir(checkout, func(path string, d fs.DirEntry, err error) error {
		if err != nil || found != "" || d.Name() != name || !d.Type().IsRegular() {
			return err
		}
		if i, err := d.Info(); err == nil && i.Mode()&0o111 != 0 {
			found = path
		}
		return nil
	})
	if err != nil || found == "" {
		return "", &unusable{fmt.Sprintf("%s: %s: no executable called %s is in it: build it first (%v)", variable, checkout, name, err)}
	}
	return found, nil
}

// portsAreFree is nil if nobody listens on the default ports, for a while at most:
// those of the pair before may just be ending.
func portsAreFree(ctx context.Context) error {
	for _, addr := range []string{grpcAddr, jobsAddr, strings.TrimPrefix(calls, "http://")} {
		err := eventually(ctx, func() error {
			l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
			if err == nil {
				_ = l.Close()
			}
			return err
		})
		if err != nil {
			return &unusable{"it needs " + addr + ": " + err.Error()}
		}
	}
	return nil
}

func eventually(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

type row struct {
	name string
	err  error
}

// bench is one pair of programs.
type bench struct {
	ctx            context.Context //nolint:containedctx // of the whole run
	rota, checkout string
	old            map[string]string
	dir            string
	say            []row
	started        []*program
}

func (b *bench) then(try func(*bench) error) error { return try(b) }

// files makes the folder of the pair: the old files, and scripts to run.
func (b *bench) files() error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	for _, from := range []string{b.checkout, filepath.Dir(b.old["scheduler"]), filepath.Dir(b.old["worker"])} {
		configs, err := filepath.Glob(filepath.Join(from, "*.toml"))
		if err != nil {
			return err
		}
		for _, path := range configs {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, base := range []string{filepath.Base(path), filepath.Base(from) + "-" + filepath.Base(path)} {
				if err := os.WriteFile(filepath.Join(b.dir, base), text, 0o600); err != nil {
					return err
				}
			}
		}
	}
	for name, text := range map[string]string{"well.sh": "echo well", "fail.sh": "exit 3", "long.sh": "exec sleep 1000"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// program is a process with what it has said.
type program struct {
	*exec.Cmd
	ended chan struct{}
	mu    sync.Mutex
	text  bytes.Buffer
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// start runs a program in the pair's folder, in a process group of its own.
func (b *bench) start(path string, args ...string) (*program, error) {
	p := &program{Cmd: exec.CommandContext(b.ctx, path, args...), ended: make(chan struct{})}
	p.Dir, p.Stdout, p.Stderr = b.dir, p, p
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.WaitDelay = time.Second
	if err := p.Start(); err != nil {
		return nil, err
	}
	b.started = append(b.started, p)
	go func() {
		defer close(p.ended)
		_ = p.Wait() // how it ended is not asked
	}()
	return p, nil
}

// signal tells all of a program's group, and waits for its end.
func (p *program) signal(s syscall.Signal) error {
	_ = syscall.Kill(-p.Process.Pid, s) // it may have ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s did not end after %s", p.Path, s)
	}
}

func (b *bench) end() {
	for _, p := range b.started {
		if p.signal(syscall.SIGTERM) != nil {
			_ = p.signal(syscall.SIGKILL)
		}
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	}
}

// call is one of the old HTTP calls; it answers the fields.
func (b *bench) call(path string, body map[string]string, want int) (map[string]any, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(b.ctx, http.MethodPost, calls+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if err := json.Unmarshal(said, &out); err != nil || resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %d %s, want %d", path, raw, resp.StatusCode, said, want)
	}
	return out, nil
}

// jobs starts, asks after and stops jobs of a worker.
func (b *bench) jobs(worker string) error {
	step := func(name string, f func() error) error {
		err := eventually(b.ctx, f)
		b.say = append(b.say, row{"  " + name, err})
		return err
	}
	start := func(script string) (id string, err error) {
		out, err := b.call("/start", map[string]string{"worker_id": worker, "command": "bash", "path": script}, http.StatusCreated)
		id, _ = out["job_id"].(string)
		if err == nil && id == "" {
			err = fmt.Errorf("/start: %v, want a job_id", out)
		}
		return id, err
	}
	ends := func(id, want string) func() error {
		return func() error {
			out, err := b.call("/query", map[string]string{"worker_id": worker, "job_id": id}, http.StatusOK)
			if text, _ := out["error_text"].(string); err == nil && (out["done"] != true || text != want) {
				err = fmt.Errorf("/query: %v, want it done with error_text %q", out, want)
			}
			return err
		}
	}
	for script, want := range map[string]string{"well.sh": "", "fail.sh": "exit status 3"} {
		id, err := start(script)
		if err := errors.Join(err, step(script+" ends", ends(id, want))); err != nil {
			return err
		}
	}
	id, err := start("long.sh")
	if err != nil {
		return err
	}
	if _, err := b.call("/stop", map[string]string{"worker_id": worker, "job_id": id}, http.StatusOK); err != nil {
		return err
	}
	if err := step("long.sh is stopped", ends(id, "signal: killed")); err != nil {
		return err
	}
	out, err := b.call("/start", map[string]string{"worker_id": "nobody", "command": "bash", "path": "well.sh"}, http.StatusInternalServerError)
	if err == nil && out["error"] == nil {
		err = fmt.Errorf("/start on no worker: %v, want an error", out)
	}
	return err
}

// oldWorker has the old worker register with a rota scheduler.
func oldWorker(b *bench) error {
	if _, err := b.start(b.rota, "scheduler", "--grpc", grpcAddr, "--http", strings.TrimPrefix(calls, "http://"), "--gateway", "", "--data-dir", filepath.Join(b.dir, "data")); err != nil {
		return err
	}
	if err := eventually(b.ctx, func() error { return b.list(nil) }); err != nil {
		return err
	}
	w, err := b.start(b.old["worker"])
	if err != nil {
		return err
	}
	var workers []listed
	err = eventually(b.ctx, func() error {
		if err := b.list(&workers); err != nil || len(workers) == 1 {
			return err
		}
		return fmt.Errorf("%d workers are listed, want the old one; it said: %s", len(workers), w.said())
	})
	if err != nil {
		return err
	}
	if err := b.jobs(workers[0].Name); err != nil {
		return err
	}
	if err := w.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return eventually(b.ctx, func() error {
		_, err := b.call("/start", map[string]string{"worker_id": workers[0].Name, "command": "bash", "path": "well.sh"}, http.StatusInternalServerError)
		return err
	})
}

// listed is a worker as rota lists it.
type listed struct {
	Name string `json:"name"`
}

func (b *bench) list(into *[]listed) error {
	cmd := exec.CommandContext(b.ctx, b.rota, "--server", grpcAddr, "worker", "list", "-o", "json")
	out, err := cmd.Output()
	if err != nil || into == nil {
		return err
	}
	*into = nil
	return json.Unmarshal(out, into)
}

// given is the id that a rota worker says the old scheduler gave it.
var given = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// oldScheduler has a rota worker register with the old scheduler.
func oldScheduler(b *bench) error {
	s, err := b.start(b.old["scheduler"])
	if err != nil {
		return err
	}
	err = eventually(b.ctx, func() error {
		c, err := new(net.Dialer).DialContext(b.ctx, "tcp", grpcAddr)
		if err != nil {
			return fmt.Errorf("the old scheduler does not listen: %w; it said: %s", err, s.said())
		}
		return c.Close()
	})
	if err != nil {
		return err
	}
	config := filepath.Join(b.dir, "rota-worker.toml")
	text := fmt.Sprintf("[grpc_server]\naddr = %q\n\n[scheduler]\naddr = %q\n", jobsAddr, grpcAddr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	w, err := b.start(b.rota, "worker", "--config", config, "--job", "bash {script:path}", "--job-dirs", b.dir)
	if err != nil {
		return err
	}
	id := ""
	err = eventually(b.ctx, func() error {
		if id = given.FindString(w.said()); id == "" {
			return fmt.Errorf("rota's worker is given no id; it said: %s", w.said())
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := b.jobs(id); err != nil {
		return err
	}
	return w.signal(syscall.SIGTERM)
}
