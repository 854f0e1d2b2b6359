package signin

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// keeper is one with a clock of the test's.
func keeper(t *testing.T) (k *Keeper, st *memory.Store, ahead *atomic.Int64) {
	t.Helper()
	st = memory.New()
	v := view.New(st, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- v.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
		st.Close()
	})
	ahead = &atomic.Int64{}
	k = NewKeeper(st, v, 0)
	k.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	return k, st, ahead
}

func somebody(id string) auth.Identity {
	return auth.Identity{Kind: auth.ByToken, ID: id, Name: id, Role: auth.Operator, Namespaces: []string{"default"}, Kinds: []string{"feed-*"}}
}

// TestSessionsAreFew: whoever signs in again and again has so many sessions and no
// more, the latest.
func TestSessionsAreFew(t *testing.T) {
	t.Parallel()
	k, st, ahead := keeper(t)
	var values []auth.Secret
	for range maxOwnSessions + 4 {
		ahead.Add(int64(time.Second))
		value, s, err := k.begin(t.Context(), somebody("ada"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Find(t.Context(), value); err != nil || got.ID != s.ID || got.Who.Role != auth.Operator || got.Who.Kinds[0] != "feed-*" || got.Who.Namespaces[0] != "default" {
			t.Fatalf("%+v %v", got, err)
		}
		values = append(values, value)
	}
	if _, _, err := k.begin(t.Context(), somebody("bob")); err != nil {
		t.Fatal(err)
	}
	for n, value := range values {
		_, err := k.Find(t.Context(), value)
		if ended := n < 4; ended != (auth.Reason(err) == auth.ReasonEnded) {
			t.Errorf("session %d: %v", n, err)
		}
	}
	kept, _, err := st.Range(t.Context(), store.SignInsPrefix)
	if err != nil || len(kept) != maxOwnSessions+1 {
		t.Errorf("%d are kept, %v", len(kept), err)
	}
	for _, kv := range kept {
		for _, value := range values {
			if secret, _, _ := strings.Cut(value.Reveal(), "."); strings.Contains(kv.Key+string(kv.Value), secret) {
				t.Error("the store keeps a secret")
			}
		}
		if kv.Lease == 0 {
			t.Error("a session would stay for good")
		}
	}
	// Of all together, too.
	k.view.Read(func() {
		for n := range maxSessions {
			k.view.SignIns[fmt.Sprint(n)] = nil
		}
	})
	if _, _, err := k.begin(t.Context(), somebody("eve")); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more than all: %v", err)
	}
}

// TestSignInsAreSeldom: one identity cannot keep the store busy.
func TestSignInsAreSeldom(t *testing.T) {
	t.Parallel()
	k, _, ahead := keeper(t)
	stop := time.Now()
	k.now = func() time.Time { return stop.Add(time.Duration(ahead.Load())) }
	for range signInBurst {
		if _, _, err := k.makeCode(t.Context(), somebody("ada")); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := k.makeCode(t.Context(), somebody("ada")); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	if _, _, err := k.begin(t.Context(), somebody("ada")); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	if _, _, err := k.begin(t.Context(), somebody("bob")); err != nil {
		t.Error(err)
	}
	ahead.Add(int64(2 * signInEvery))
	if _, _, err := k.begin(t.Context(), somebody("ada")); err != nil {
		t.Error(err)
	}
}

// TestCodesGrowOld: a code is good for its time, once, and for what it was made for.
func TestCodesGrowOld(t *testing.T) {
	t.Parallel()
	k, st, ahead := keeper(t)
	good := func(auth.Identity) error { return nil }
	code, ends, err := k.makeCode(t.Context(), somebody("ada"))
	if err != nil || ends.Sub(k.now()) > codeLife {
		t.Fatal(ends, err)
	}
	kept, _, err := st.Range(t.Context(), store.SignInCodes)
	if err != nil || len(kept) != 1 || strings.Contains(kept[0].Key+string(kept[0].Value), code.Reveal()) || kept[0].Lease == 0 {
		t.Errorf("%v %v", kept, err)
	}
	refused := errors.New("not she")
	if _, _, err := k.redeem(t.Context(), code, func(auth.Identity) error { return refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	for _, wrong := range []auth.Secret{"", "x", code[1:], code + "x", auth.Secret(newSecret()), "../" + code[3:]} {
		if _, _, err := k.redeem(t.Context(), wrong, good); !errors.Is(err, errCode) {
			t.Errorf("%q: %v", wrong.Reveal(), err)
		}
	}
	ahead.Store(int64(codeLife))
	if _, _, err := k.redeem(t.Context(), code, good); !errors.Is(err, errCode) {
		t.Errorf("late: %v", err)
	}
	ahead.Store(0)
	_, s, err := k.redeem(t.Context(), code, good)
	if err != nil || s.Who.ID != "ada" || s.Who.Role != auth.Operator {
		t.Errorf("%+v %v", s, err)
	}
	if _, _, err := k.redeem(t.Context(), code, good); !errors.Is(err, errCode) {
		t.Errorf("twice: %v", err)
	}
}

// TestWhoCannotSignIn: a session is of somebody whose credentials can be asked about
// later.
func TestWhoCannotSignIn(t *testing.T) {
	t.Parallel()
	k, _, _ := keeper(t)
	over := somebody("ada")
	over.Expires = time.Now()
	large := somebody(strings.Repeat("x", maxRecord))
	for name, who := range map[string]auth.Identity{
		"nobody": auth.From(t.Context()), "this machine": {Kind: auth.Local, Role: auth.Admin, Name: "local"},
		"a worker": {Kind: auth.ByCert, Worker: "w", Name: "w"}, "whose time is over": over, "who has very much to say": large,
	} {
		if _, _, err := k.begin(t.Context(), who); err == nil {
			t.Errorf("%s signed in", name)
		}
	}
}

// TestAttemptsAreBounded: however many addresses fail, few are remembered.
func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	a, now := newAttempts(time.Second, 2), time.Now()
	for n := range 3 * maxAttempts {
		a.take(fmt.Sprint(n), now)
	}
	if len(a.of) > maxAttempts+1 {
		t.Errorf("%d are remembered", len(a.of))
	}
	if a.take("one more", now) {
		t.Error("those who are not told apart are one")
	}
	if !a.take("one more", now.Add(time.Hour)) || len(a.of) > 2 {
		t.Errorf("%d are remembered for ever", len(a.of))
	}
}

// TestManyUnknownSessions: however many try what never was a session, nobody is told
// that theirs has ended, by a scheduler that has not read of it yet.
func TestManyUnknownSessions(t *testing.T) {
	t.Parallel()
	k, st, _ := keeper(t)
	value, _, err := k.begin(t.Context(), somebody("ada"))
	if err != nil {
		t.Fatal(err)
	}
	other := NewKeeper(st, view.New(st, slog.New(slog.DiscardHandler)), 0)
	other.looks.SetLimit(0)
	for range lookBurst {
		if _, err := other.Find(t.Context(), cookieValue(newSecret(), time.Now().Add(time.Hour))); status.Code(err) != codes.Unauthenticated {
			t.Fatal(err)
		}
	}
	if _, err := other.Find(t.Context(), value); status.Code(err) != codes.Unavailable {
		t.Errorf("a session that there is: %v", err)
	}
}
