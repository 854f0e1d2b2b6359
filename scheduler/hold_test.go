package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/test/memo"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/service"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store/memory"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// given is a source whose list a test sets.
type given struct {
	mu   sync.Mutex
	list []rota.Task
	err  error
	news bool
}

func (g *given) set(list []rota.Task, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list, g.err, g.news = list, err, true
}

// source is one that says when nothing has changed, for one scheduler.
func (g *given) source() *source.Source {
	s := source.Func("list", func(context.Context) ([]rota.Task, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.news {
			return nil, source.ErrUnchanged
		}
		g.news = g.err != nil
		return g.list, g.err
	})
	s.Every = time.Second
	s.Reset = func() { g.mu.Lock(); g.news = true; g.mu.Unlock() }
	return s
}

// numbered are tasks with the numbers from one to below another.
func numbered(from, to int) (out []rota.Task) {
	for n := from; n < to; n++ {
		out = append(out, rota.Task{ID: fmt.Sprintf("n%03d", n)})
	}
	return out
}

// sourceNow waits for things to settle, and answers the only source and what is declared.
func sourceNow(t *testing.T, svc *service.Service, after time.Duration) (*rotav1.Source, int64) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	s, err := svc.GetStatus(t.Context(), &rotav1.GetStatusRequest{})
	if err != nil || len(s.GetSources()) != 1 {
		t.Fatalf("%v, %v", s, err)
	}
	return s.GetSources()[0], s.GetTasks().GetDeclared()
}

// TestHolds: which lists are held.
func TestHolds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		part      float64
		have      int
		keep, add int
		held      bool
	}{
		{0, 100, 100, 50, false},
		{0, 100, 50, 0, false},
		{0, 100, 49, 0, true},
		{0, 100, 49, 500, true}, // what comes does not make up for what goes
		{0, 100, 0, 0, true},
		{0, 100, 0, 100, true}, // other ids for all
		{0, 3, 1, 0, false},
		{0, 3, 0, 1, true},
		{0, 3, 0, 0, true},
		{0, 2, 1, 0, false},
		{0, 2, 0, 1, false}, // a list of a few can be edited
		{0, 2, 0, 0, true},  // but none is left only on purpose
		{0, 1, 0, 1, false},
		{0, 1, 0, 0, true},
		{0, 0, 0, 0, false},
		{0, 0, 0, 5, false},
		{0.1, 100, 90, 0, false},
		{0.1, 100, 89, 0, true},
		{1, 100, 1, 0, false},
		{1, 100, 0, 0, false},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				t.Cleanup(func() { st.Close() })
				g := &given{}
				g.set(numbered(0, c.have), nil)
				sc := newScheduler(t, "s1", st, scheduler.Config{Sources: []*source.Source{g.source()}, Hold: c.part})
				svc := sc.Service("test")
				t.Cleanup(svc.Close)
				sourceNow(t, svc, 3*time.Second)
				g.set(append(numbered(0, c.keep), numbered(500, 500+c.add)...), nil)
				src, declared := sourceNow(t, svc, 3*time.Second)
				want := int64(c.keep + c.add)
				if c.held {
					want = int64(c.have)
				}
				if (src.GetHeld() != nil) != c.held || declared != want || src.GetError() != "" {
					t.Errorf("%d declared, want %d; %v", declared, want, src)
				}
				if h := src.GetHeld(); c.held && (h.GetRemoves() != int64(c.have-c.keep) || h.GetOf() != int64(c.have) || h.GetWaitMs() != 600_000) {
					t.Errorf("held: %v", h)
				}
			})
		})
	}
}

// TestHoldConfig: a part that is none is refused.
func TestHoldConfig(t *testing.T) {
	t.Parallel()
	for _, part := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		_, err := scheduler.New(scheduler.Config{Store: memory.New(), Hold: part})
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != "hold" {
			t.Errorf("%v: %v", part, err)
		}
	}
}

// TestHold plays a source that takes much away: what is held is told, survives
// leaders and errors, and ends by a confirmation, by time, or by a better list.
func TestHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		var log memo.Buffer
		g := &given{}
		g.set(numbered(0, 10), nil)
		start := func(name string) (*scheduler.Scheduler, *service.Service) {
			sc, err := scheduler.New(scheduler.Config{
				Name: name, Store: st, Sources: []*source.Source{g.source()}, HoldFor: time.Minute,
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			sc.Start()
			svc := sc.Service("test")
			return sc, svc
		}
		end := func(sc *scheduler.Scheduler, svc *service.Service) {
			svc.Close()
			if err := sc.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
		sc, svc := start("s1")
		check := func(after time.Duration, declared int64, held bool, problem string) *rotav1.HeldList {
			t.Helper()
			src, n := sourceNow(t, svc, after)
			if n != declared || (src.GetHeld() != nil) != held || !strings.Contains(src.GetError(), problem) || problem == "" && src.GetError() != "" {
				t.Errorf("%d declared, want %d; held %v; %v", n, declared, held, src)
			}
			return src.GetHeld()
		}
		confirm := func(name string) error {
			t.Helper()
			r, err := svc.ConfirmList(t.Context(), &rotav1.ConfirmListRequest{Source: name})
			if err == nil && strings.Join(r.GetSources(), " ") != "list" {
				t.Errorf("confirmed %v", r)
			}
			return err
		}
		check(3*time.Second, 10, false, "")
		if err := confirm(""); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("nothing is held: %v", err)
		}
		if err := confirm("other"); status.Code(err) != codes.NotFound {
			t.Errorf("no such source: %v", err)
		}
		// It is held, through an error and a leader.
		g.set(numbered(0, 2), nil)
		first := check(3*time.Second, 10, true, "")
		if strings.Count(log.String(), "list held") != 1 {
			t.Errorf("told: %s", log.String())
		}
		g.set(nil, errors.New("no luck"))
		check(3*time.Second, 10, true, "no luck")
		g.set(numbered(0, 2), nil)
		check(30*time.Second, 10, true, "")
		end(sc, svc)
		sc, svc = start("s2")
		if again := check(45*time.Second, 10, true, ""); !again.GetSince().AsTime().Equal(first.GetSince().AsTime()) || strings.Count(log.String(), "list held") != 1 {
			t.Errorf("the next leader holds it since %v, not %v; %s", again.GetSince(), first.GetSince(), log.String())
		}
		// The leader, too, waits for its whole time.
		check(20*time.Second, 2, false, "")
		// Confirmed, while nobody leads: the next leader takes it.
		g.set(numbered(0, 10), nil)
		check(3*time.Second, 10, false, "")
		g.set(nil, nil)
		check(3*time.Second, 10, true, "")
		if err := confirm("list"); err != nil {
			t.Error(err)
		}
		end(sc, svc)
		sc, svc = start("s3")
		check(8*time.Second, 0, false, "")
		// A better list ends it; what was confirmed before is good for nothing now.
		g.set(numbered(0, 10), nil)
		check(3*time.Second, 10, false, "")
		g.set(nil, nil)
		check(3*time.Second, 10, true, "")
		g.set(numbered(0, 9), nil)
		check(3*time.Second, 9, false, "")
		g.set(nil, nil)
		check(50*time.Second, 9, true, "")
		g.set(numbered(0, 1), nil) // another list: its time begins anew
		check(50*time.Second, 9, true, "")
		if err := confirm(""); err != nil {
			t.Error(err)
		}
		check(time.Second, 1, false, "")
		if err := confirm(""); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("confirmed twice: %v", err)
		}
		end(sc, svc)
	})
}

// TestHeldForEver: without a time only a confirmation takes a list.
func TestHeldForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		g := &given{}
		g.set(numbered(0, 10), nil)
		sc := newScheduler(t, "s1", st, scheduler.Config{Sources: []*source.Source{g.source()}, HoldFor: -1})
		svc := sc.Service("test")
		t.Cleanup(svc.Close)
		sourceNow(t, svc, 3*time.Second)
		g.set(nil, nil)
		if src, n := sourceNow(t, svc, 100*time.Hour); n != 10 || src.GetHeld() == nil || src.GetHeld().GetWaitMs() != 0 {
			t.Errorf("%d declared; %v", n, src)
		}
	})
}

// TestHeldThroughErrors: a source that fails now and then does not have its held list
// wait for ever; while it fails nothing of it is taken.
func TestHeldThroughErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		g := &given{}
		g.set(numbered(0, 10), nil)
		sc := newScheduler(t, "s1", st, scheduler.Config{Sources: []*source.Source{g.source()}, HoldFor: time.Minute})
		svc := sc.Service("test")
		t.Cleanup(svc.Close)
		check := func(after time.Duration, declared int64, held bool) {
			t.Helper()
			if src, n := sourceNow(t, svc, after); n != declared || (src.GetHeld() != nil) != held {
				t.Errorf("%d declared, want %d; %v", n, declared, src)
			}
		}
		check(3*time.Second, 10, false)
		for range 7 { // 56 s
			g.set(numbered(0, 2), nil)
			check(4*time.Second, 10, true)
			g.set(nil, errors.New("no luck"))
			check(4*time.Second, 10, true)
		}
		check(time.Hour, 10, true)
		g.set(numbered(0, 2), nil)
		check(3*time.Second, 2, false)
		// A wrong list is no list, either.
		g.set(numbered(0, 10), nil)
		check(3*time.Second, 10, false)
		for range 7 {
			g.set(numbered(0, 3), nil)
			check(4*time.Second, 10, true)
			g.set(append(numbered(0, 9), numbered(0, 1)...), nil)
			check(4*time.Second, 10, true)
		}
		g.set(numbered(0, 3), nil)
		check(10*time.Second, 3, false)
		// Another list that is taken ends it.
		g.set(numbered(0, 10), nil)
		check(3*time.Second, 10, false)
		g.set(numbered(0, 2), nil)
		check(50*time.Second, 10, true)
		g.set(numbered(0, 9), nil)
		check(3*time.Second, 9, false)
		g.set(numbered(0, 2), nil)
		check(50*time.Second, 9, true)
		check(20*time.Second, 2, false)
	})
}

// TestHoldProperty: whatever lists come, no two that follow each other within less
// than the time of a held one take away more than half, but one or two.
func TestHoldProperty(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(seed, 2))
			st := memory.New()
			t.Cleanup(func() { st.Close() })
			g := &given{}
			g.set(numbered(0, 40), nil)
			sc := newScheduler(t, "s1", st, scheduler.Config{Sources: []*source.Source{g.source()}, HoldFor: time.Hour})
			svc := sc.Service("test")
			t.Cleanup(svc.Close)
			_, before := sourceNow(t, svc, 3*time.Second)
			for range 40 {
				from := chance.IntN(40)
				g.set(numbered(from, from+chance.IntN(41-from)), nil)
				_, now := sourceNow(t, svc, 2*time.Second)
				if now < before && before-now > 2 && now*2 < before || now == 0 {
					t.Fatalf("seed %d: %d of %d are left", seed, now, before)
				}
				before = now
			}
		})
	}
}

// TestLateAnswer: what a source says after its time is dropped, before and after
// what it says next.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		asked, at, under := 0, time.Now(), 0
		src := source.Func("list", func(context.Context) ([]rota.Task, error) {
			asked++
			if under++; under > 1 {
				t.Error("two readings at once")
			}
			defer func() { under-- }()
			switch asked {
			case 1:
				return numbered(0, 10), nil
			case 2:
				time.Sleep(20 * time.Second) // it does not care for its context
				return numbered(100, 120), nil
			}
			return numbered(0, 9), nil
		})
		src.Every = time.Second
		sc := newScheduler(t, "s1", st, scheduler.Config{Sources: []*source.Source{src}, Timeout: 5 * time.Second, Hold: 1})
		svc := sc.Service("test")
		t.Cleanup(svc.Close)
		for time.Since(at) < time.Minute {
			src, n := sourceNow(t, svc, time.Second)
			if n > 10 || n == 0 && time.Since(at) > 3*time.Second {
				t.Fatalf("after %v %d are declared", time.Since(at), n)
			}
			if since := time.Since(at); since > 8*time.Second && since < 18*time.Second && !strings.Contains(src.GetError(), "no answer within 5s") {
				t.Errorf("after %v it says %v", since, src)
			}
		}
		if src, n := sourceNow(t, svc, 0); n != 9 || src.GetError() != "" {
			t.Errorf("at last %d are declared, %v", n, src)
		}
	})
}
