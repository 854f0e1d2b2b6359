package pools_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/pools"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// TestLatePool: a pool whose declaration had an unknown outcome, and was not there when
// somebody asked, does not come into being.
func TestLatePool(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		first := true
		st := faulty.New(b.st, func(c faulty.Call) (f faulty.Fault) {
			if c.Kind == faulty.Txn && strings.HasPrefix(c.Key, store.PoolsPrefix) && first {
				first, f.Late = false, 2*time.Second
			}
			return f
		})
		defer st.Close()
		k := pools.New(pools.Config{Store: st, View: b.v, Scheduler: "s2", Engines: map[string]engine.Engine{engine.Local: b.engine}})
		defer k.Close(b.ctx())
		if _, err := k.ApplyPools(b.ctx(), &rotav1.ApplyPoolsRequest{Pools: []*rotav1.PoolDefinition{definition("web", 1, 1)}}); status.Code(err) != codes.Unavailable {
			b.Fatalf("%v, want an unknown outcome", err)
		}
		if _, err := k.DeletePool(b.ctx(), &rotav1.DeletePoolRequest{Name: "web"}); status.Code(err) != codes.NotFound {
			b.Fatalf("%v, want that it is not there", err)
		}
		time.Sleep(5 * time.Second)
		if _, err := k.GetPool(b.ctx(), &rotav1.GetPoolRequest{Name: "web"}); status.Code(err) != codes.NotFound {
			b.Errorf("%v, want that it is still not there", err)
		}
	})
}

func TestPoolLives(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply(definition("web", 2, 2))
		if n := len(b.engine.living()); n != 2 {
			b.Fatalf("%d workers started, want 2", n)
		}
		for w, o := range b.engine.ordered() {
			if !strings.HasPrefix(w, "pool.web.") || o.Env["ROTA_NAME"] != w || o.Env["ROTA_LABELS"] != "pool=web,tier=web" || o.Env["ROTA_KINDS"] != "web" || o.Env["OTEL_OF"] != engine.Local || o.Token == "" {
				b.Errorf("order %+v", o)
			}
			for _, word := range append([]string{w}, o.Argv...) {
				if strings.Contains(word, o.Token) {
					b.Error("the token is in an argument")
				}
			}
		}
		if p := b.get("web"); p.GetState() != "growing" || p.GetStarted() != 2 || p.GetJoined() != 0 {
			b.Errorf("%v", p)
		}
		b.up()
		if p := b.get("web"); p.GetState() != "ready" || p.GetJoined() != 2 {
			b.Errorf("%v", p)
		}
		if _, err := b.k.ScalePool(b.ctx(), &rotav1.ScalePoolRequest{Name: "web", Size: &rotav1.PoolSize{From: 1, To: 1}}); err != nil {
			b.Fatal(err)
		}
		b.pass(3 * time.Second)
		if n := len(b.engine.living()); n != 1 {
			b.Errorf("%d workers live, want 1", n)
		}
		if _, err := b.k.DeletePool(b.ctx(), &rotav1.DeletePoolRequest{Name: "web"}); err != nil {
			b.Fatal(err)
		}
		b.pass(3 * time.Second)
		for w := range b.leases {
			if w != "leader" {
				b.alive(w, false)
			}
		}
		b.pass(3 * time.Second)
		_, err := b.k.GetPool(b.ctx(), &rotav1.GetPoolRequest{Name: "web"})
		wants(b.T, err, `pool "web": not found`)
		if kvs, _, err := b.st.Range(context.Background(), store.PoolWorkersPrefix); err != nil || len(kvs) > 0 {
			b.Error(kvs, err)
		}
	})
}

// TestJoinTokens: used once, in time, and for the worker that they are for.
func TestJoinTokens(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply(definition("web", 1, 1), definition("api", 1, 1))
		living := b.engine.living()
		api, web := living[0], living[1]
		_, err := b.k.JoinWorker(b.ctx(), &rotav1.JoinWorkerRequest{Token: "rotajoin_no", PublicKey: []byte("key")})
		wants(b.T, err, "join token: incomplete token")
		_, err = b.k.JoinWorker(b.ctx(), &rotav1.JoinWorkerRequest{Token: b.engine.ordered()[web].Token})
		wants(b.T, err, "want the worker's public key")
		_, err = b.k.JoinWorker(b.ctx(), &rotav1.JoinWorkerRequest{Token: b.engine.ordered()[web].Token, PublicKey: []byte("key"), Worker: api})
		wants(b.T, err, "the join token is for worker "+web+", not for "+api)
		if err := b.join(web, "key"); err != nil {
			b.Fatal(err)
		}
		if err := b.join(web, "key"); err != nil { // its first answer was lost
			b.Error(err)
		}
		wants(b.T, b.join(web, "key of a second copy"), "the join token of "+web+" was used at ")
		b.pass(time.Minute)
		if err := b.join(web, "key"); err != nil {
			b.Error(err)
		}
		b.pass(time.Minute + time.Second) // its token would be good for longer
		wants(b.T, b.join(web, "key"), "the join token of "+web+" was used at ")
		b.pass(3*time.Minute - 3*time.Second)
		wants(b.T, b.join(api, "key"), "expired at ")
		b.pass(4 * time.Second)
		wants(b.T, b.join(api, "key"), "unknown join token")
		if p := b.get("api"); !strings.Contains(p.GetError(), "runs and did not join within 5m0s") {
			b.Errorf("%v", p)
		}
		if b.signed[api] != 0 || b.signed[web] != 3 {
			b.Errorf("signed %v", b.signed)
		}
	})
}

// TestWrongJoinTokensAreCheap: however many tokens are shown that are no good, of whatever
// kind, the store is hardly asked about them, and who shows a good one meanwhile joins.
func TestWrongJoinTokensAreCheap(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply(definition("web", 3, 3))
		living := b.engine.living()
		used, good, late := living[0], living[1], living[2]
		if err := b.join(used, "key"); err != nil {
			b.Fatal(err)
		}
		token := func(worker string) string { return b.engine.ordered()[worker].Token }
		guessed := func(worker string) string { return auth.NewJoinToken(worker, "").Text().Reveal() }
		asked, known := b.gets.Load(), b.known.Load()
		show := func(wrong ...string) {
			b.Helper()
			for n := range 1000 {
				_, err := b.k.JoinWorker(b.ctx(), &rotav1.JoinWorkerRequest{Token: wrong[n%len(wrong)], PublicKey: []byte("another key")})
				if c := status.Code(err); c != codes.PermissionDenied && c != codes.InvalidArgument && c != codes.ResourceExhausted {
					b.Fatal(err)
				}
			}
		}
		wrong := []string{"nonsense", guessed("pool.web.none"), guessed(good), guessed(used), guessed("w"), token(used)}
		show(wrong...)
		if err := b.join(good, "key"); err != nil {
			b.Errorf("in the midst of them: %v", err)
		}
		show(wrong...)
		if n := b.gets.Load() - asked; n > 32 {
			b.Errorf("the store was asked %d times", n)
		}
		if n := b.known.Load() - known; n != 1 {
			b.Errorf("%d calls count as of somebody known, want that one", n)
		}
		b.pass(5*time.Minute - 2*time.Second) // the time of the tokens
		asked = b.gets.Load()
		show(token(late))
		if n := b.gets.Load() - asked; n > 0 {
			b.Errorf("about one that is too late the store was asked %d times", n)
		}
	})
}

// TestJoinBeforeThePictureHasIt: a token whose worker the picture does not have yet is
// looked up in the store, and to be shown again while too many such are.
func TestJoinBeforeThePictureHasIt(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		nothing := memory.New()
		defer nothing.Close()
		k := pools.New(pools.Config{Store: b.st, View: view.New(nothing, slog.New(slog.DiscardHandler)), Scheduler: "s2"})
		defer k.Close(context.Background())
		early, key := auth.NewJoinToken("pool.web.early", ""), sha256.Sum256([]byte("key"))
		hash := early.Hash()
		b.put(store.PoolWorkerKey(early.Worker), &storepb.PoolWorker{ // its first answer was lost
			Version: record.Version, Name: early.Worker, Pool: "web", TokenHash: hash[:], KeyHash: key[:],
			JoinedUnixMs: time.Now().UnixMilli(), TokenEndsUnixMs: time.Now().Add(time.Minute).UnixMilli(),
		}, 0)
		join := func(token auth.JoinToken) error {
			_, err := k.JoinWorker(b.ctx(), &rotav1.JoinWorkerRequest{Token: token.Text().Reveal(), PublicKey: []byte("key")})
			return err
		}
		if err := join(early); err != nil {
			b.Error(err)
		}
		for range 100 {
			if err := join(auth.NewJoinToken(early.Worker, "")); err == nil {
				b.Fatal("a guess is let in")
			}
		}
		if err := join(early); status.Code(err) != codes.ResourceExhausted {
			b.Errorf("beside many others: %v", err)
		}
		b.pass(time.Second)
		if err := join(early); err != nil {
			b.Errorf("later: %v", err)
		}
	})
}

// TestTokensThatNobodyCouldShow: where the authority is too long for a join token no
// worker is started that could not join, and the pool says why.
func TestTokensThatNobodyCouldShow(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.authority.Store(strings.Repeat("certificate\n", 10_000))
		b.apply(definition("web", 1, 1))
		if p := b.get("web"); !strings.Contains(p.GetError(), "make a join token of") {
			b.Errorf("%v", p)
		}
		if n := len(b.engine.living()); n > 0 {
			b.Errorf("%d workers were started", n)
		}
		b.authority.Store("certificate\n")
		b.pass(2 * time.Minute) // until it is tried again
		if n := len(b.engine.living()); n != 1 {
			b.Errorf("with a short one %d workers were started", n)
		}
	})
}

// TestNothingIsDoubled: whatever an engine does with a start, there is one worker.
func TestNothingIsDoubled(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(f *fake, o engine.Order) error{
		"refused": func(f *fake, _ engine.Order) error {
			f.start = nil
			return engine.ErrNoRoom
		},
		"twice": func(f *fake, o engine.Order) error {
			f.start = nil
			f.begin(o)
			return nil
		},
		"the answer is lost": func(f *fake, o engine.Order) error {
			f.start = nil
			f.begin(o)
			return engine.ErrUnsure
		},
		"the question is lost": func(f *fake, _ engine.Order) error {
			f.start = nil
			return engine.ErrUnsure
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(b *bench) {
				b.engine.change(func() { b.engine.start = func(o engine.Order) error { return start(b.engine, o) } })
				b.apply(definition("web", 1, 1))
				b.pass(10 * time.Second)
				joined := 0
				for range 2 {
					for _, w := range b.engine.living() {
						if b.join(w, "key "+time.Now().String()) == nil {
							joined++
							b.alive(w, true)
						}
					}
					b.pass(90 * time.Second)
				}
				if n := len(b.engine.living()); n != 1 || joined != 1 {
					b.Errorf("%d copies live, %d joined, want one: %v", n, joined, b.get("web"))
				}
			})
		})
	}
}

// TestStateLost: an engine that lists nothing any more has nothing started again that
// lives, and what comes to light again is gone on with.
func TestStateLost(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply(definition("web", 1, 1))
		b.up()
		var kept map[string]engine.Copy
		b.engine.change(func() { kept, b.engine.copies = b.engine.copies, map[string]engine.Copy{} })
		b.pass(time.Hour)
		p := b.get("web")
		if len(b.engine.living()) != 0 || len(p.GetNotes()) != 1 || !strings.Contains(p.GetNotes()[0], "no longer knows") {
			b.Errorf("%v, notes %v", b.engine.living(), p.GetNotes())
		}
		b.engine.change(func() { b.engine.copies = kept })
		b.pass(time.Minute)
		if p = b.get("web"); len(b.engine.living()) != 1 || len(p.GetNotes()) != 0 {
			b.Errorf("%v, notes %v", b.engine.living(), p.GetNotes())
		}
		b.engine.change(func() { b.engine.copies = map[string]engine.Copy{} })
		for w := range b.leases {
			if w != "leader" {
				b.alive(w, false)
			}
		}
		b.pass(time.Minute)
		if len(b.engine.living()) != 1 {
			b.Errorf("%v live, want another", b.engine.living())
		}
	})
}

// TestAway: an engine that does not answer is told of, and nothing is started meanwhile.
// TestAskedToLeave: a worker that somebody asks to end soon after it has joined, as a node that
// is drained does, leaves in order: that is no failure of its pool, and another takes its
// place after a moment. One that only ends is a failure.
func TestAskedToLeave(t *testing.T) {
	t.Parallel()
	for _, inOrder := range []bool{true, false} {
		bubble(t, func(b *bench) {
			b.apply(definition("web", 1, 1))
			b.up()
			first := b.engine.living()[0]
			if inOrder {
				b.put(store.SessionKey(first), &storepb.Session{Version: record.Version, Name: first, Leaving: true}, b.leases[first])
			}
			b.alive(first, false)
			b.engine.change(func() {
				for handle, c := range b.engine.copies {
					c.State = engine.Ended
					b.engine.copies[handle] = c
				}
			})
			b.pass(2 * time.Second)
			p := b.get("web")
			if failed := p.GetFailures() > 0 || p.GetError() != "" || p.GetState() == "failing"; failed == inOrder {
				b.Errorf("in order %v: %v", inOrder, p)
			}
			b.pass(10 * time.Second)
			if now := b.engine.living(); len(now) != 1 || now[0] == first {
				b.Errorf("in order %v: %v after %s", inOrder, now, first)
			}
		})
	}
}

func TestAway(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.engine.change(func() { b.engine.listErr = errors.New("no answer") })
		b.apply(definition("web", 1, 1))
		if p := b.get("web"); len(b.engine.living()) != 0 || !reflect.DeepEqual(p.GetNotes(), []string{"the engine local does not answer: no answer"}) {
			b.Errorf("%v", p)
		}
		b.engine.change(func() { b.engine.listErr = nil })
		b.pass(2 * time.Second)
		if len(b.engine.living()) != 1 {
			b.Errorf("%v", b.engine.living())
		}
	})
}

// TestStrays: what nobody has a record of is stopped, and what another cluster has is not.
func TestStrays(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply(definition("web", 1, 1))
		cluster := ""
		for _, o := range b.engine.ordered() {
			cluster = o.Cluster
		}
		b.engine.change(func() {
			b.engine.begin(engine.Order{Cluster: cluster, Pool: "web", Worker: "pool.web.stray"})
			b.engine.begin(engine.Order{Cluster: "another", Pool: "web", Worker: "pool.web.theirs"})
		})
		b.pass(2 * time.Second)
		living := strings.Join(b.engine.living(), " ")
		if strings.Contains(living, "stray") || !strings.Contains(living, "theirs") || len(b.engine.living()) != 2 {
			b.Errorf("%v live", living)
		}
	})
}

// TestManyChangeOnePool: whoever was overtaken tries again when the picture has what
// overtook it, however late that comes, and all are done.
func TestManyChangeOnePool(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply(definition("web", 0, 0))
		late := faulty.New(b.st, func(c faulty.Call) faulty.Fault {
			if c.Kind == faulty.Batch {
				return faulty.Fault{Delay: 100 * time.Millisecond}
			}
			return faulty.Fault{}
		})
		ctx, cancel := context.WithCancel(b.Context())
		v := view.New(late, slog.New(slog.DiscardHandler))
		var all sync.WaitGroup
		all.Go(func() { _ = v.Run(ctx) })
		k := pools.New(pools.Config{Store: b.st, View: v, Scheduler: "s2"})
		b.pass(time.Second)
		var writers sync.WaitGroup
		for n := range int64(10) {
			writers.Go(func() {
				if _, err := k.ScalePool(b.ctx(), &rotav1.ScalePoolRequest{Name: "web", Size: &rotav1.PoolSize{To: 100 + n}}); err != nil {
					b.Errorf("writer %d: %v", n, err)
				}
			})
		}
		writers.Wait()
		k.Close(context.Background())
		cancel()
		all.Wait()
		late.Close()
	})
}

// TestDoneAndUnseen: who has a pool applied, scaled or deleted, and the picture does not
// have it in time, is told that it is done.
func TestDoneAndUnseen(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply(definition("web", 0, 0))
		ctx, cancel := context.WithCancel(b.Context())
		var stuck atomic.Bool
		late := faulty.New(b.st, func(c faulty.Call) faulty.Fault {
			if c.Kind == faulty.Batch && stuck.Load() {
				return faulty.Fault{Delay: time.Hour}
			}
			return faulty.Fault{}
		})
		v := view.New(late, slog.New(slog.DiscardHandler))
		var all sync.WaitGroup
		all.Go(func() { _ = v.Run(ctx) })
		k := pools.New(pools.Config{Store: b.st, View: v, Scheduler: "s2"})
		b.pass(time.Second)
		stuck.Store(true)
		_, err := k.ScalePool(b.ctx(), &rotav1.ScalePoolRequest{Name: "web", Size: &rotav1.PoolSize{To: 7}})
		if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "it is done, and the store has it") {
			b.Errorf("scaled: %v", err)
		}
		b.v.Read(func() {
			if to := b.v.Pools["web"].GetTo(); to != 7 {
				b.Errorf("the store has %d", to)
			}
		})
		// One that was overtaken has done nothing.
		_, err = k.DeletePool(b.ctx(), &rotav1.DeletePoolRequest{Name: "web"})
		if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "nothing was done") {
			b.Errorf("overtaken: %v", err)
		}
		k.Close(context.Background())
		cancel()
		all.Wait()
		late.Close()
	})
}

// TestOneLeads: a scheduler that does not lead starts nothing, and the next leader goes on
// with what there is.
func TestOneLeads(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		other := newFake()
		k2 := b.control("s2", map[string]engine.Engine{engine.Local: other})
		defer k2.Close(context.Background())
		b.apply(definition("web", 2, 2))
		b.up()
		b.lead("s2")
		b.pass(time.Minute)
		if len(b.engine.living()) != 2 || len(other.living()) != 0 {
			b.Fatalf("%v and %v live", b.engine.living(), other.living())
		}
		// What is to end is stopped by the scheduler whose child it is.
		if _, err := k2.ScalePool(b.ctx(), &rotav1.ScalePoolRequest{Name: "web", Size: &rotav1.PoolSize{From: 1, To: 1}}); err != nil {
			b.Fatal(err)
		}
		b.pass(5 * time.Second)
		if len(b.engine.living()) != 1 || len(other.living()) != 0 {
			b.Errorf("%v and %v live", b.engine.living(), other.living())
		}
		if _, err := k2.ScalePool(b.ctx(), &rotav1.ScalePoolRequest{Name: "web", Size: &rotav1.PoolSize{From: 3, To: 3}}); err != nil {
			b.Fatal(err)
		}
		b.pass(5 * time.Second)
		if len(b.engine.living()) != 1 || len(other.living()) != 2 {
			b.Errorf("%v and %v live", b.engine.living(), other.living())
		}
	})
}

// TestDeposed: a leader that is none any more, and does not know it yet, starts nothing.
func TestDeposed(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		deposed := false
		b.engine.change(func() {
			b.engine.start = func(engine.Order) error {
				if !deposed { // while the first of two is started
					deposed = true
					b.leaderKey("s9")
				}
				return nil
			}
		})
		b.apply(definition("web", 2, 2))
		b.pass(time.Minute)
		if n := len(b.engine.living()); n > 1 {
			b.Errorf("%d started, one of them by nobody who leads", n)
		}
	})
}

// leaderKey writes the leader's key anew, as another term.
func (b *bench) leaderKey(name string) {
	value, err := record.Encode(&storepb.Leader{Version: record.Version, Name: name})
	if err != nil {
		b.Error(err)
	}
	_ = b.st.Revoke(context.Background(), b.leases["leader"])
	lease, _, err := b.st.Grant(context.Background(), 1000*time.Hour)
	if err != nil {
		b.Error(err)
	}
	_, _, err = b.st.Txn(context.Background(), nil, []store.Op{{Key: store.LeaderKey, Value: value, Lease: lease}})
	if err != nil {
		b.Error(err)
	}
}

// TestNoEngine: the leader says that it does not have a pool's engine.
func TestNoEngine(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		k2 := b.control("s2", nil)
		defer k2.Close(context.Background())
		b.lead("s2")
		b.apply(definition("web", 1, 1))
		want := []string{"the leader s2 has no engine local: start it with --engines local"}
		if p := b.get("web"); !reflect.DeepEqual(p.GetNotes(), want) {
			b.Errorf("notes %q", p.GetNotes())
		}
		_, err := k2.ApplyPools(b.ctx(), &rotav1.ApplyPoolsRequest{Pools: []*rotav1.PoolDefinition{definition("web", 1, 1)}})
		wants(b.T, err, `pool "web": engine: "local": want an engine; this scheduler has none: start it with --engines`)
	})
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		for _, tc := range []struct {
			change func(d *rotav1.PoolDefinition)
			want   string
		}{
			{func(d *rotav1.PoolDefinition) { d.Name = "Web" }, "name: \"Web\": want"},
			{func(d *rotav1.PoolDefinition) { d.Engine = "borg" }, "engine: \"borg\": want one of "},
			{func(d *rotav1.PoolDefinition) { d.Engine = "nomad" }, "engine: \"nomad\": want an engine of this scheduler: local"},
			{func(d *rotav1.PoolDefinition) { d.Engine = "mesos" }, "Apache Mesos was retired"},
			{func(d *rotav1.PoolDefinition) { d.Engine = "" }, "engine: \"\": want one of "},
			{func(d *rotav1.PoolDefinition) { d.Size = &rotav1.PoolSize{From: 3, To: 2} }, "size.from: 3: want no more than size.to, which is 2"},
			{func(d *rotav1.PoolDefinition) { d.Size = &rotav1.PoolSize{From: -1} }, "size.from: -1: want zero or more"},
			{func(d *rotav1.PoolDefinition) { d.Size = &rotav1.PoolSize{To: 1 << 40} }, "size.to: "},
			{func(d *rotav1.PoolDefinition) { d.Size = nil }, "size: \"\": want a number of workers"},
			{func(d *rotav1.PoolDefinition) { d.IdleAfterMs = -1 }, "idle_after_ms: -1: want"},
			{func(d *rotav1.PoolDefinition) { d.StartTimeoutMs = 1 }, "start_timeout: 1ms: want"},
			{func(d *rotav1.PoolDefinition) { d.Options = map[string]string{"x": "y"} }, "options: \"x\": want"},
			{func(d *rotav1.PoolDefinition) { d.Template = nil }, "template.command"},
			{func(d *rotav1.PoolDefinition) { d.Template.Role = "gateway" }, "template.role: \"gateway\": want worker"},
			{func(d *rotav1.PoolDefinition) { d.Template.Kinds = []string{"a,b"} }, "template.kinds: \"a,b\": want no commas"},
			{func(d *rotav1.PoolDefinition) { d.Template.Capacity = map[string]float64{"cpu": -1} }, "template.capacity"},
			{func(d *rotav1.PoolDefinition) { d.Template.MaxTasks = -1 }, "template.max_tasks"},
			{func(d *rotav1.PoolDefinition) { d.Template.Command = []string{""} }, "template.command"},
		} {
			d := definition("web", 1, 1)
			tc.change(d)
			_, err := b.k.ApplyPools(b.ctx(), &rotav1.ApplyPoolsRequest{Pools: []*rotav1.PoolDefinition{definition("ok", 1, 1), d}})
			wants(b.T, err, tc.want)
			if status.Code(err) != codes.InvalidArgument {
				b.Error(err)
			}
		}
		_, err := b.k.ApplyPools(b.ctx(), &rotav1.ApplyPoolsRequest{Pools: []*rotav1.PoolDefinition{definition("web", 1, 1), definition("web", 1, 1)}})
		wants(b.T, err, "it occurs twice")
		_, err = b.k.ApplyPools(b.ctx(), &rotav1.ApplyPoolsRequest{})
		wants(b.T, err, "want at least one pool")
		_, err = b.k.ScalePool(b.ctx(), &rotav1.ScalePoolRequest{Name: "no", Size: &rotav1.PoolSize{}})
		wants(b.T, err, "not found")
		b.pass(time.Minute)
		if list, err := b.k.ListPools(b.ctx(), nil); err != nil || len(list.GetPools()) > 0 || len(b.engine.living()) > 0 {
			b.Error("something was changed", list, err)
		}
		b.apply(definition("web", 1, 1))
		_, err = b.k.ScalePool(b.ctx(), &rotav1.ScalePoolRequest{Name: "web", Size: &rotav1.PoolSize{From: 2, To: 1}})
		wants(b.T, err, "size.from: 2: want no more than size.to, which is 1")
		if _, err := b.k.DeletePool(b.ctx(), &rotav1.DeletePoolRequest{Name: "web"}); err != nil {
			b.Error(err)
		}
		_, err = b.k.ApplyPools(b.ctx(), &rotav1.ApplyPoolsRequest{Pools: []*rotav1.PoolDefinition{definition("web", 1, 1)}})
		wants(b.T, err, "it is being deleted")
		synctest.Wait()
	})
}

// TestFollowsLoad: what waits has the preferred pool grow, then the other one, and each
// shrinks when it is idle.
func TestFollowsLoad(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		first, second, other := definition("first", 0, 2), definition("second", 0, 5), definition("other", 0, 5)
		for n, d := range []*rotav1.PoolDefinition{first, second, other} {
			d.Preference, d.Template.Capacity = int64(n), map[string]float64{"cpu": 2}
		}
		other.Template.Kinds = []string{"gpu"}
		b.apply(second, other, first)
		b.tasks(7, "web", 1)
		b.pass(5 * time.Second)
		if n := len(b.engine.living()); n != 0 {
			b.Errorf("%d workers started at once", n)
		}
		b.pass(time.Minute)
		if got := [3]int64{b.get("first").GetStarted(), b.get("second").GetStarted(), b.get("other").GetStarted()}; got != [3]int64{2, 2, 0} {
			b.Errorf("%v workers, want 2, 2 and none", got)
		}
		b.tasks(0, "web", 1)
		b.up()
		b.pass(9 * time.Minute)
		if n := len(b.engine.living()); n != 4 {
			b.Errorf("%d workers live, want all 4 still", n)
		}
		b.pass(time.Hour)
		if n := len(b.engine.living()); n != 0 {
			b.Errorf("%d workers live that nobody needs", n)
		}
	})
}

// tasks declares so many tasks of one kind, and no others.
func (b *bench) tasks(n int, kind string, cpu float64) {
	b.Helper()
	var set []record.Task
	for i := range n {
		t := rota.Task{ID: fmt.Sprint(kind, i), Kind: kind, Replicas: 1, Resources: map[string]float64{"cpu": cpu}}
		set = append(set, record.NewTask(t, ""))
	}
	var units []table.Unit
	var err error
	b.v.Read(func() {
		var del []string
		for t := range b.v.Tasks.All() {
			del = append(del, t.ID)
		}
		units, err = b.v.Tasks.Stage(set, del)
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, u := range units {
		if ok, _, err := b.st.Txn(context.Background(), u.Conds, u.Ops); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
	synctest.Wait()
}
