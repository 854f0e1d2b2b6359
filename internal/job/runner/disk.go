package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
)

const (
	resultFile = "result.json"
	toldFile   = "told.json"
	workDir    = "work"
)

// validID keeps ids from being more than one path element.
func validID(id string) error {
	if id == "" || len(id) > 64 || strings.Trim(id, "0123456789abcdefABCDEF-") != "" {
		return &rota.FieldError{Field: "id", Value: text.Clip(id, text.Short), Want: "a UUID"}
	}
	return nil
}

func (r *Runner) path(k key) string {
	return filepath.Join(r.cfg.Dir, k.id, strconv.FormatUint(uint64(k.generation), 10))
}

// makeWork makes the directory in which jobs work that name none: an empty one
// that all of them share and none has a use for.
func (r *Runner) makeWork() error {
	dir := filepath.Join(r.cfg.Dir, workDir)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("runner: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // jobs of other users work there
		return fmt.Errorf("runner: %w", err)
	}
	if err := os.Chmod(dir, 0o555); err != nil { //nolint:gosec // as above
		return fmt.Errorf("runner: %w", err)
	}
	return nil
}

// untoldTime is how long the end of a job that wrote nothing is kept in memory
// only, for a scheduler to take it.
const untoldTime = time.Second

// writeUntold keeps an end that nobody was told of. r.mu is held.
func (r *Runner) writeUntold(a *attempt) {
	if a.unwritten == nil {
		return
	}
	a.unwritten.Stop()
	a.unwritten = nil
	if a.told {
		return
	}
	// If this fails, the job is lost should the worker die before it is told.
	if err := os.MkdirAll(r.path(a.key), 0o711); err == nil { //nolint:gosec // others may pass through, not list
		_ = r.writeResult(a)
	}
}

// record is an ended attempt on disk.
type record struct {
	State     job.State     `json:"state"`
	ExitCode  int           `json:"exit_code"`
	Signal    string        `json:"signal,omitempty"`
	Error     string        `json:"error,omitempty"`
	Permanent bool          `json:"permanent,omitempty"`
	Left      bool          `json:"left,omitempty"`
	Started   time.Time     `json:"started"`
	Ended     time.Time     `json:"ended"`
	Keep      time.Duration `json:"keep"`
	Written   int64         `json:"written,omitempty"`
}

func (r *Runner) writeResult(a *attempt) error {
	b, err := json.Marshal(record{
		State: a.result.State, ExitCode: a.result.ExitCode, Signal: a.result.Signal, Error: a.result.Error,
		Permanent: a.result.Permanent, Left: a.left, Started: a.result.Started, Ended: a.result.Ended, Keep: a.keep, Written: a.written,
	})
	if err != nil {
		return fmt.Errorf("runner: %w", err)
	}
	// One that is torn by a crash counts as none: the attempt is lost.
	if err := os.WriteFile(filepath.Join(r.path(a.key), resultFile), b, 0o600); err != nil {
		return fmt.Errorf("runner: keep result: %w", err)
	}
	return nil
}

// Told notes that a scheduler has the end of this attempt in the store.
func (r *Runner) Told(id string, g rota.Generation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempts[key{id, g}]
	if a == nil || !a.state.Done() || a.told {
		return
	}
	a.told = true
	if a.unwritten != nil {
		r.writeUntold(a) // there is nothing to write any more
		return
	}
	path := r.path(a.key)
	// If this fails, it is told once more after a restart: no harm.
	_ = os.Rename(filepath.Join(path, resultFile), filepath.Join(path, toldFile))
}

// Remove forgets all ended attempts of a job, with their output.
func (r *Runner) Remove(id string) error {
	if err := validID(id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = slices.DeleteFunc(r.ended, func(k key) bool {
		if k.id == id {
			r.attempts[k].told = true // nobody wants to hear of it
			r.drop(k)
			return true
		}
		return false
	})
	return nil
}

// drop forgets an ended attempt now and removes it from the disk by and by.
func (r *Runner) drop(k key) {
	a := r.attempts[k]
	if a.unwritten != nil {
		a.unwritten.Stop()
		a.unwritten = nil
	}
	r.forgot = r.forgot || !a.told
	delete(r.attempts, k)
	r.spilled = slices.DeleteFunc(r.spilled, func(s *attempt) bool { return s == a })
	r.wg.Go(func() {
		path := r.path(k)
		_ = r.cfg.Output.Total.Remove(path)
		_ = os.Remove(filepath.Dir(path)) // if it was the last attempt
	})
}

// expire drops what has been kept long enough, or is too much, and comes back
// when the next is due.
func (r *Runner) expire(now time.Time) {
	over := 0
	if len(r.ended) > r.cfg.MaxEnded {
		over = len(r.ended) - r.cfg.MaxEnded*9/10 // a tenth at once, so that it costs little each
	}
	if r.sweeper != nil && over == 0 || r.closed {
		return
	}
	next := time.Time{}
	r.ended = slices.DeleteFunc(r.ended, func(k key) bool {
		a := r.attempts[k]
		due := a.result.Ended.Add(a.keep)
		if over > 0 || !now.Before(due) {
			over--
			r.drop(k)
			return true
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
		return false
	})
	if r.sweeper == nil && !next.IsZero() {
		r.sweeper = time.AfterFunc(min(max(next.Sub(now), time.Second), time.Minute), func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sweeper = nil
			r.expire(time.Now())
		})
	}
}

// load reads what earlier runners left. Attempts without a result were running
// when their worker died: their output is served, and the scheduler knows by
// the worker's lease that they are lost.
func (r *Runner) load() error {
	jobs, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return fmt.Errorf("runner: %w", err)
	}
	for _, j := range jobs {
		if validID(j.Name()) != nil || !j.IsDir() {
			continue
		}
		generations, err := os.ReadDir(filepath.Join(r.cfg.Dir, j.Name()))
		if err != nil {
			return fmt.Errorf("runner: %w", err)
		}
		for _, e := range generations {
			g, err := strconv.ParseUint(e.Name(), 10, 64)
			if err != nil {
				continue
			}
			r.loadAttempt(key{j.Name(), rota.Generation(g)})
		}
	}
	slices.SortFunc(r.ended, func(a, b key) int {
		return r.attempts[a].result.Ended.Compare(r.attempts[b].result.Ended)
	})
	for _, k := range r.ended {
		if err := r.cfg.Output.Total.Add(r.path(k)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) loadAttempt(k key) {
	a := &attempt{key: k, told: true, state: job.Lost, keep: job.DefaultKeep, done: make(chan struct{})}
	close(a.done)
	path := r.path(k)
	b, err := os.ReadFile(filepath.Join(path, toldFile))
	if errors.Is(err, os.ErrNotExist) {
		if b, err = os.ReadFile(filepath.Join(path, resultFile)); err == nil {
			a.told = false
		}
	}
	var rec record
	if err == nil && json.Unmarshal(b, &rec) == nil && rec.State.Done() {
		a.state, a.keep, a.left, a.written = rec.State, rec.Keep, rec.Left, rec.Written
		a.result = job.Result{
			State: rec.State, ExitCode: rec.ExitCode, Signal: rec.Signal, Error: rec.Error,
			Permanent: rec.Permanent, Started: rec.Started, Ended: rec.Ended,
		}
	} else {
		a.told = true
		a.result = job.Result{State: job.Lost, ExitCode: -1, Ended: time.Now()}
		if fi, err := os.Stat(path); err == nil {
			a.result.Ended = fi.ModTime()
		}
	}
	r.attempts[k] = a
	r.ended = append(r.ended, k)
}
