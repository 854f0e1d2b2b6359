// Package slurm is the engine of a cluster that Slurm runs: each worker is a batch job
// of this process's user. It needs sbatch, squeue and scancel, of which any version
// since 20.11 will do, and no file system that the nodes share. The job script goes to
// sbatch on its standard input, and Slurm keeps it from everybody but that user.
package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/text"
)

const (
	// listEvery is how often squeue is asked: it costs the cluster's controller more
	// than an engine of one machine.
	listEvery = 5 * time.Second
	// grace is how long a worker that was asked to end may take to hand over.
	grace = 2 * time.Minute
	// warnBefore is how long before the end of its allocation Slurm itself asks a worker
	// to end, if no scheduler has: it may do so a minute earlier.
	warnBefore = time.Minute
	// maxOutput is how much of what a command writes is read.
	maxOutput = 32 << 20
	// maxTold is how much of a command's error is told.
	maxTold = 400
)

// Config is what the engine needs.
type Config struct {
	// Self is the program that the word "rota" stands for, on the nodes.
	Self string
}

// Engine is the engine.
type Engine struct {
	cfg Config
	env []string

	listing room.Listing

	mu    sync.Mutex
	asked map[string]time.Time // by job: when it was asked to end first
}

// New returns an engine. It asks nothing of Slurm.
func New(c Config) *Engine {
	return &Engine{cfg: c, env: environ(os.Environ()), listing: room.Listing{Every: listEvery}, asked: map[string]time.Time{}}
}

// environ is what commands need of an environment: jobs inherit what sbatch has, so
// that nothing else may be in it.
func environ(all []string) []string {
	env := []string{"SLURM_TIME_FORMAT=%s"}
	for _, e := range all {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "PATH", "HOME", "USER", "LOGNAME", "SLURM_CONF":
			env = append(env, e)
		}
	}
	return env
}

// Options are what a pool may say, and what each value has to be.
func Options() map[string]func(string) string {
	out := map[string]func(string) string{
		"time": func(v string) string {
			if d, err := time.ParseDuration(v); err != nil || d < time.Minute || d > 365*24*time.Hour || d%time.Minute != 0 {
				return "whole minutes as a duration, such as 24h: at least 1m, at most 8760h"
			}
			return ""
		},
		"cpus": func(v string) string {
			if n, err := strconv.Atoi(v); err != nil || n < 1 || n > 1<<16 {
				return "a whole number above zero"
			}
			return ""
		},
		"dir":    room.Path,
		"rota":   room.Path,
		"output": room.Path,
	}
	for name := range passed {
		out[name] = room.Word("a word as sbatch takes it, without blanks")
	}
	return out
}

// passed are the options that sbatch has too, by their names there.
var passed = map[string]string{
	"account": "account", "constraint": "constraint", "gres": "gres", "memory": "mem", "partition": "partition", "qos": "qos", "reservation": "reservation",
}

// args are those of sbatch for an order. The token is in none of them.
func args(o room.Order) []string {
	opt := func(name, without string) string {
		if v := o.Options[name]; v != "" {
			return v
		}
		return without
	}
	out := []string{
		"--parsable", "--export=ALL", "--no-requeue", "--nodes=1", "--ntasks=1", "--open-mode=append", "--input=/dev/null",
		"--job-name=" + o.Worker, "--comment=" + mark(o.Cluster, o.Pool), "--chdir=" + opt("dir", "/tmp"), "--output=" + opt("output", "/dev/null"),
		"--cpus-per-task=" + opt("cpus", "1"),
	}
	for name, flag := range passed {
		if v := o.Options[name]; v != "" {
			out = append(out, "--"+flag+"="+v)
		}
	}
	// A signal that is due before the start would end a short job at once.
	limit, err := time.ParseDuration(o.Options["time"])
	if err == nil {
		out = append(out, fmt.Sprintf("--time=%d", limit/time.Minute))
	}
	if err != nil || limit >= 10*warnBefore {
		out = append(out, fmt.Sprintf("--signal=B:TERM@%d", warnBefore/time.Second))
	}
	slices.Sort(out)
	return out
}

// mark is the comment by which jobs of a cluster's pool are known.
func mark(cluster, pool string) string { return "rota/" + cluster + "/" + pool }

// script is the job script: it sets what the worker is told, and becomes the worker.
func script(self string, o room.Order) string {
	argv := slices.Clone(o.Argv)
	if argv[0] == "rota" {
		argv[0] = self
		if v := o.Options["rota"]; v != "" {
			argv[0] = v
		}
	}
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, e := range append(o.Environ(), room.TokenEnv+"="+o.Token) {
		name, value, _ := strings.Cut(e, "=")
		b.WriteString("export " + name + "=" + quote(value) + "\n")
	}
	b.WriteString("exec")
	for _, a := range argv {
		b.WriteString(" " + quote(a))
	}
	b.WriteString("\n")
	return b.String()
}

// quote makes one word of the shell of a text.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Start submits a job. Its handle is the job's number.
func (e *Engine) Start(ctx context.Context, o room.Order) (string, error) {
	out, err := e.run(ctx, script(e.cfg.Self, o), append([]string{"sbatch"}, args(o)...)...)
	e.listing.Forget()
	if err != nil {
		return "", fmt.Errorf("start %s: %w", o.Worker, judge(err))
	}
	id, _, _ := strings.Cut(strings.TrimSpace(out), ";") // with the cluster's name after it
	if !number(id) {
		return "", fmt.Errorf("start %s: %w: sbatch answers %q, which is no job's number", o.Worker, room.ErrUnsure, text.Clip(id, maxTold))
	}
	return id, nil
}

// number reports whether a text is a job's number.
func number(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// judge says what an error of sbatch means.
func judge(err error) error {
	told := strings.ToLower(err.Error())
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(told, w) })
	}
	var failed *commandError
	switch {
	case !errors.As(err, &failed): // it was not run
		return err
	case !failed.ended, has("timed out", "zero bytes were transmitted", "unexpected message", "communication"):
		return fmt.Errorf("%w: %w", room.ErrUnsure, err)
	case has("policy", "limit", "not available", "can not be satisfied", "cannot be satisfied"):
		return fmt.Errorf("%w: %w", room.ErrNoRoom, err)
	}
	return err
}

// Stop asks a job to end: one that waits is cancelled, one that runs is asked as any
// worker is, and cancelled if it has not ended two minutes later.
func (e *Engine) Stop(ctx context.Context, handle string) error {
	if !number(handle) {
		return nil // there is no such job
	}
	first := e.firstAsked(handle)
	e.listing.Forget()
	commands := [][]string{
		{"scancel", "--state=PENDING", handle},
		{"scancel", "--state=RUNNING", "--batch", "--signal=TERM", handle},
	}
	if time.Since(first) > grace {
		commands = [][]string{{"scancel", handle}}
	}
	var failed error
	for _, c := range commands {
		_, err := e.run(ctx, "", c...)
		if err == nil || strings.Contains(err.Error(), "Invalid job id") || strings.Contains(err.Error(), "already finished") {
			continue
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return fmt.Errorf("stop job %s: %w", handle, failed)
	}
	return nil
}

// firstAsked is when a job was asked to end for the first time.
func (e *Engine) firstAsked(handle string) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for h, at := range e.asked {
		if now.Sub(at) > 24*time.Hour {
			delete(e.asked, h)
		}
	}
	if _, ok := e.asked[handle]; !ok {
		e.asked[handle] = now
	}
	return e.asked[handle]
}

// List lists the jobs of this user that are workers, of any cluster.
func (e *Engine) List(ctx context.Context) ([]room.Copy, error) {
	return e.listing.Get(func() ([]room.Copy, error) {
		out, err := e.run(ctx, "", "squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%S|%e|%l|%r|%j|%k")
		if err != nil {
			return nil, err
		}
		return parse(out)
	})
}

// Close ends nothing: jobs live on, and the next scheduler goes on with them.
func (*Engine) Close(context.Context) error { return nil }

// parse reads what squeue lists. Jobs that are no workers are passed over.
func parse(out string) (copies []room.Copy, err error) {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f := strings.SplitN(line, "|", 8)
		if len(f) != 8 {
			return nil, fmt.Errorf("squeue answers %q, which is not the eight fields that it was asked for", text.Clip(line, maxTold))
		}
		words := strings.Split(strings.TrimSpace(f[7]), "/")
		if len(words) != 3 || words[0] != "rota" {
			continue
		}
		c := room.Copy{Cluster: words[1], Pool: words[2], Worker: f[6], Handle: f[0], State: state(f[1]), Detail: detail(f[1], f[5])}
		if c.State != room.Waiting {
			c.Began = moment(f[2])
		}
		if f[1] == "RUNNING" && f[4] != "UNLIMITED" { // of one that completes it is when it ended
			c.Ends = moment(f[3])
		}
		copies = append(copies, c)
	}
	slices.SortFunc(copies, func(a, b room.Copy) int { return strings.Compare(a.Worker+a.Handle, b.Worker+b.Handle) })
	return copies, nil
}

// state is where a job is. One in a state that is not known may run.
func state(s string) room.State {
	switch s {
	case "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT":
		return room.Waiting
	case "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT":
		return room.Ended
	}
	return room.Running
}

// detail is a job's state with its reason, if there is one.
func detail(state, reason string) string {
	if reason == "" || reason == "None" {
		return state
	}
	return state + ": " + reason
}

// moment is a time of squeue, in seconds since 1970; zero if it has none.
func moment(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

// commandError is a command that was run and failed.
type commandError struct {
	name, said string
	exit       process.Exit
	ended      bool // by itself
}

func (e *commandError) Error() string {
	if e.said == "" {
		return e.name + ": " + e.exit.String()
	}
	return e.name + ": " + e.said
}

// run runs a command of Slurm's, and answers what it writes.
func (e *Engine) run(ctx context.Context, stdin string, argv ...string) (string, error) {
	var out, errs capped
	p, err := process.Start(ctx, process.Spec{Argv: argv, Env: e.env, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Grace: time.Second})
	if err != nil {
		return "", err
	}
	exit, err := p.Wait()
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", argv[0], err)
	case exit.Stopped:
		return "", errors.Join(&commandError{name: argv[0], said: "no answer in time", exit: exit}, ctx.Err())
	case !exit.Success():
		return "", &commandError{name: argv[0], said: said(argv[0], errs.String()), exit: exit, ended: true}
	}
	return out.String(), nil
}

// said is what a command has written, on one line and without its own name.
func said(name, errs string) string {
	var lines []string
	for line := range strings.Lines(errs) {
		line = strings.TrimSpace(line)
		line = strings.TrimPrefix(strings.TrimPrefix(line, name+": "), "error: ")
		if line != "" {
			lines = append(lines, line)
		}
	}
	return text.Clip(strings.ToValidUTF8(strings.Join(lines, "; "), "?"), maxTold)
}

// capped keeps the first bytes of what is written.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if left := maxOutput - c.Len(); left > 0 {
		_, _ = c.Buffer.Write(p[:min(left, len(p))])
	}
	return len(p), nil
}
