package job

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
)

var t0 = time.Unix(1_700_000_000, 0).UTC()

// script runs steps, one a line, and returns the state after each.
func script(t *testing.T, s Spec, steps string) []string {
	t.Helper()
	j, now := New("j", t0), t0
	var out []string
	for step := range strings.FieldsSeq(steps) {
		name, arg, _ := strings.Cut(step, ":")
		var g rota.Generation
		if _, err := fmt.Sscan(arg, &g); err != nil {
			g = j.Generation()
		}
		var err error
		switch name {
		case "place":
			j, err = j.Place("w", "i", 1, g, now)
		case "begin":
			j, err = j.Begin(1, g, now, now)
		case "ok":
			j, err = j.End(g, s, Result{State: Succeeded}, now)
		case "fail":
			j, err = j.End(g, s, Result{State: Failed, ExitCode: 1}, now)
		case "refuse":
			j, err = j.End(g, s, Result{State: Failed, ExitCode: -1, Permanent: true}, now)
		case "timeout":
			j, err = j.End(g, s, Result{State: TimedOut, ExitCode: -1}, now)
		case "stopped":
			j, err = j.End(g, s, Result{State: Stopped, ExitCode: -1}, now)
		case "leave":
			j, err = j.Leave(g, s, Result{State: Stopped, ExitCode: -1}, now)
		case "unplace":
			j, err = j.Unplace(g, "full", now, 0)
		case "lose":
			j, err = j.Lose(g, s, "worker gone", now)
		case "stop":
			j, err = j.Stop(now)
		case "retry":
			j, err = j.Retry(now)
		case "ready":
			if ready, _ := j.Ready(now); !ready {
				err = errors.New("not ready")
			}
		case "wait":
			now = now.Add(time.Hour)
		default:
			t.Fatalf("no such step: %s", name)
		}
		word := string(j.State)
		switch {
		case errors.Is(err, ErrStale):
			word += "!stale"
		case errors.Is(err, ErrState):
			word += "!state"
		case err != nil:
			word += "!"
		}
		out = append(out, word)
	}
	return out
}

//nolint:dupword // a job may stay where it is
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		spec        Spec
		steps, want string
	}{
		{"straight through", Spec{}, "place:1 begin ok", "starting running succeeded"},
		{"ended before its start was heard of", Spec{}, "place:1 ok begin", "starting succeeded succeeded!state"},
		{"said twice", Spec{}, "place:1 begin begin ok ok", "starting running running succeeded succeeded"},
		{"failed", Spec{}, "place:1 begin fail", "starting running failed"},
		{
			"retried",
			Spec{Retries: 1},
			"place:1 begin fail ready wait ready place:2 fail",
			"starting running queued queued! queued queued starting failed",
		},
		{"a timeout is retried", Spec{Retries: 1}, "place:1 timeout place:2 begin timeout", "starting queued starting running timed-out"},
		{"not allowed is not retried", Spec{Retries: 5}, "place:1 refuse", "starting failed"},
		{
			"old generations are nobody",
			Spec{Retries: 1},
			"place:5 fail begin:5 place:5 place:4 place:6 begin:5 ok:5 ok:6",
			"starting queued queued!stale queued!stale queued!stale starting starting!stale starting!stale succeeded",
		},
		{"lost", Spec{}, "place:1 begin lose lose", "starting running lost lost!state"},
		{"lost and found", Spec{}, "place:1 begin lose begin ok", "starting running lost running succeeded"},
		{"lost and found at its end", Spec{}, "place:1 begin lose fail", "starting running lost failed"},
		{
			"lost and run again",
			Spec{Rerun: true},
			"place:1 begin lose ready ok:1 place:2 ok:1 begin ok",
			"starting running queued queued queued!stale starting starting!stale running succeeded",
		},
		{"its worker left", Spec{Retries: 3}, "place:1 begin leave leave", "starting running stopped stopped"},
		{
			"its worker left and it runs again",
			Spec{Rerun: true},
			"place:1 begin leave ready leave:1 place:2 leave:1 begin ok",
			"starting running queued queued queued starting starting!stale running succeeded",
		},
		{"its worker left before its start was heard of", Spec{Rerun: true}, "place:1 leave begin:1", "starting queued queued!stale"},
		{"stopped, and its worker left", Spec{Rerun: true}, "place:1 begin stop leave", "starting running running stopped"},
		{"given up, then its worker said that it left", Spec{}, "place:1 begin lose leave", "starting running lost stopped"},
		{"taken back", Spec{}, "place:1 unplace place:2 begin unplace", "starting queued starting running running!state"},
		{"stopped in the queue", Spec{}, "stop place:1 stop", "stopped stopped!state stopped!state"},
		{"stopped as it runs", Spec{Retries: 3, Rerun: true}, "place:1 begin stop fail stop", "starting running running stopped stopped!state"},
		{"stopped as it starts", Spec{Retries: 3}, "place:1 stop unplace", "starting starting stopped"},
		{"stopped and lost", Spec{Rerun: true}, "place:1 begin stop lose", "starting running running lost"},
		{"ended well as it was stopped", Spec{}, "place:1 begin stop ok", "starting running running succeeded"},
		{
			"again, by a person",
			Spec{Retries: 1},
			"retry place:1 fail place:2 fail retry place:3 fail place:4 ok",
			"queued!state starting queued starting failed queued starting queued starting succeeded",
		},
		{"again after a stop", Spec{}, "stop retry place:1 fail", "stopped queued starting failed"},
		{"no such end", Spec{}, "begin:1 ok:1 lose:1 unplace:1", "queued!stale queued!stale queued!stale queued!stale"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(script(t, c.spec, c.steps), " "); got != c.want {
				t.Errorf("%s\n got %s\nwant %s", c.steps, got, c.want)
			}
		})
	}
}

// TestProperties throws events of a few workers, also late and repeated ones,
// at jobs, and holds each step to what must always be so.
func TestProperties(t *testing.T) {
	t.Parallel()
	moves := 0
	for seed := range uint64(800) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := Spec{Argv: []string{"x"}, Retries: rnd.IntN(4), Rerun: rnd.IntN(2) == 0}
		j, now := New("j", t0), t0
		var issued rota.Generation
		asked, excused := 0, 0 // retries by a person; attempts that cost no retry
		for step := range 60 {
			now = now.Add(time.Duration(rnd.IntN(5)) * time.Second)
			g := rota.Generation(rnd.Int64N(int64(issued) + 2))
			if rnd.IntN(2) == 0 {
				g = j.Generation()
			}
			was := j
			snapshot := was
			snapshot.Attempts = slices.Clone(was.Attempts)
			var err error
			event := rnd.IntN(9)
			switch event {
			case 0, 1:
				if ready, _ := j.Ready(now); ready {
					issued++
					j, err = j.Place("w", "i", 1, issued, now)
				}
			case 2:
				j, err = j.Begin(1, g, now, now)
			case 3, 4:
				states := []State{Succeeded, Failed, Stopped, TimedOut, Lost, Queued}
				j, err = j.End(g, s, Result{State: states[rnd.IntN(len(states))], Ended: now}, now)
			case 5:
				j, err = j.Lose(g, s, "gone", now)
			case 6:
				j, err = j.Unplace(g, "full", now, time.Second)
			case 7:
				j, err = j.Stop(now)
			case 8:
				if rnd.IntN(4) == 0 {
					j, err = j.Retry(now)
					if err == nil {
						asked++
					}
				}
			}
			fail := func(what string) {
				t.Helper()
				t.Fatalf("seed %d step %d event %d generation %d: %s\nbefore %+v\nafter  %+v\nerror  %v", seed, step, event, g, what, snapshot, j, err)
			}
			if !reflect.DeepEqual(was, snapshot) {
				fail("the old job was changed")
			}
			if err != nil && !reflect.DeepEqual(was, j) {
				fail("an error changed something")
			}
			if j.Generation() < was.Generation() {
				fail("the generation went back")
			}
			if event >= 2 && event <= 6 && g != was.Generation() && !reflect.DeepEqual(was, j) {
				fail("another generation had an effect")
			}
			if !j.State.Known() || j.State.Done() == j.Finished.IsZero() {
				fail("done and its time do not agree")
			}
			if j.State.Active() && !was.State.Active() && event > 1 && was.State != Lost {
				fail("became active without a placement")
			}
			if was.StopAsked && !was.State.Done() && j.State == Queued {
				fail("queued again though its end was asked for")
			}
			if len(j.Attempts) > maxKept || j.Count < len(j.Attempts) {
				fail("attempts miscounted")
			}
			for i := 1; i < len(j.Attempts); i++ {
				if !j.Attempts[i-1].State.Done() {
					fail("an attempt began before the last one was over")
				}
			}
			if event == 5 && err == nil || event == 6 && err == nil {
				excused++
			}
			if j.Count > (1+s.Retries)*(1+asked)+excused {
				fail("more attempts than it asked for")
			}
			if !reflect.DeepEqual(was, j) {
				moves++
			}
		}
	}
	if moves < 5_000 {
		t.Errorf("only %d changes of state: too few to mean anything", moves)
	}
}

func TestAttemptsKept(t *testing.T) {
	t.Parallel()
	j := New("j", t0)
	s := Spec{Retries: 100}
	for g := range rota.Generation(40) {
		var err error
		if j, err = j.Place("w", "i", 1, g+1, t0); err != nil {
			t.Fatal(err)
		}
		if j, err = j.End(g+1, s, Result{State: Failed}, t0); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(j.Attempts); n != maxKept || j.Count != 40 {
		t.Fatalf("%d attempts kept of %d", n, j.Count)
	}
	if j.Attempts[0].Number != 1 || j.Attempts[1].Number != 40-maxKept+2 || j.Attempts[maxKept-1].Number != 40 {
		t.Errorf("kept the wrong ones: %+v", j.Attempts)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	s := Spec{Backoff: time.Second, MaxBackoff: time.Minute}
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 7: time.Minute, 40: time.Minute, 1 << 30: time.Minute} {
		if got := Backoff(s, "id", n); got > want || got < want*4/5 {
			t.Errorf("after failure %d: %v, want %v less at most a fifth", n, got, want)
		}
	}
	if Backoff(s, "a", 7) == Backoff(s, "b", 7) {
		t.Error("two jobs come back at the same instant")
	}
	if got := Backoff(Spec{Backoff: MaxTimeout}, "a", 1000); got > MaxTimeout {
		t.Errorf("overflow: %v", got)
	}
}

func TestExpires(t *testing.T) {
	t.Parallel()
	j := New("j", t0)
	if _, ok := j.Expires(Spec{}); ok {
		t.Error("a queued job expires")
	}
	j, _ = j.Stop(t0.Add(time.Second))
	if at, ok := j.Expires(Spec{Keep: time.Minute}); !ok || !at.Equal(t0.Add(61*time.Second)) {
		t.Errorf("expires %v, %v", at, ok)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Spec{Argv: []string{"echo", ""}, Env: map[string]string{"A": ""}, Worker: "w", Require: []string{"zone=a"}, Timeout: time.Second}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	many := map[string]string{}
	for i := range MaxEnv + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for field, change := range map[string]func(*Spec){
		"argv":        func(s *Spec) { s.Argv = nil },
		"argv ":       func(s *Spec) { s.Argv = []string{""} },
		"argv  ":      func(s *Spec) { s.Argv = []string{"a\x00"} },
		"argv   ":     func(s *Spec) { s.Argv = []string{"a", strings.Repeat("x", MaxBytes)} },
		"argv    ":    func(s *Spec) { s.Argv = make([]string, MaxArgs+1); s.Argv[0] = "x" },
		"argv     ":   func(s *Spec) { s.Argv = []string{"\xff"} },
		"env":         func(s *Spec) { s.Env = map[string]string{"A": "\x00"} },
		"env ":        func(s *Spec) { s.Env = map[string]string{"A=B": ""} },
		"env  ":       func(s *Spec) { s.Env = many },
		"dir":         func(s *Spec) { s.Dir = "\x00" },
		"stdin":       func(s *Spec) { s.Stdin = make([]byte, MaxStdin+1) },
		"timeout":     func(s *Spec) { s.Timeout = -1 },
		"backoff":     func(s *Spec) { s.Backoff = -1 },
		"max_backoff": func(s *Spec) { s.Backoff, s.MaxBackoff = time.Minute, time.Second },
		"grace":       func(s *Spec) { s.Grace = 2 * time.Hour },
		"keep":        func(s *Spec) { s.Keep = MaxKeep + 1 },
		"retries":     func(s *Spec) { s.Retries = -1 },
		"worker":      func(s *Spec) { s.Worker = "a b" },
		"require":     func(s *Spec) { s.Require = []string{""} },
		"resources.x": func(s *Spec) { s.Resources = map[string]float64{"x": -1} },
	} {
		s := good
		change(&s)
		var fe *rota.FieldError
		if err := s.Validate(); !errors.As(err, &fe) || fe.Field != strings.TrimSpace(field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

// TestClocks: whoever says what, by whichever clock, the times of a job are in
// order, and how long it ran stays.
func TestClocks(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"behind": -24 * time.Hour, "true": 0, "ahead": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, err := New("j", t0).Place("w", "i", 1, 5, t0.Add(off))
			if err != nil {
				t.Fatal(err)
			}
			if j, err = j.Begin(1, 5, t0.Add(time.Second), t0.Add(2*time.Second)); err != nil {
				t.Fatal(err)
			}
			began, _ := j.Current()
			j, err = j.End(5, Spec{}, Result{State: Succeeded, Started: t0.Add(-off).Add(time.Second), Ended: t0.Add(-off).Add(4 * time.Second)}, t0.Add(off/2))
			if err != nil {
				t.Fatal(err)
			}
			a, _ := j.Current()
			times := []time.Time{j.Created, a.Placed, a.Result.Started, a.Result.Ended, a.Finished, j.Finished}
			for n := range times[1:] {
				if times[n+1].Before(times[n]) {
					t.Errorf("not in order: %v", times)
				}
			}
			if began.Result.Started.Before(began.Placed) || a.Result.Ended.Sub(a.Result.Started) != 3*time.Second {
				t.Errorf("began %v, then %v to %v", began.Result.Started, a.Result.Started, a.Result.Ended)
			}
		})
	}
}
