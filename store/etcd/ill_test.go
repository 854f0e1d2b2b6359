package etcd_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// silent is an address where connections are taken and nothing is answered, as at a
// member that is stopped.
func silent(t *testing.T) string {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return l.Addr().String()
}

// TestSilentMember has the first member answer nothing, from the start or from some
// moment on: everything is asked of another one, long before the call would be over.
func TestSilentMember(t *testing.T) {
	t.Parallel()
	s := open(t, etcd.Config{
		Endpoints: []string{silent(t), node.Endpoints()[0]}, Root: rand.Text() + "/",
		DialTimeout: time.Minute, RequestTimeout: time.Minute, Patience: 50 * time.Millisecond,
	})
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second) // less than one call may take
	defer cancel()
	lease, ttl, err := s.Grant(ctx, 10*time.Second)
	if err != nil || ttl != 10*time.Second {
		t.Fatal(ttl, err)
	}
	if ttl, err := s.KeepAlive(ctx, lease); err != nil || ttl != 10*time.Second {
		t.Error(ttl, err)
	}
	_, _, from, err := s.Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	watch := s.Watch(ctx, "", from+1)
	ok, rev, err := s.Txn(ctx, []store.Cond{{Key: "k", By: store.ByCreate}}, []store.Op{{Key: "k", Value: []byte("v"), Lease: lease}})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	for b := range watch {
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		if len(b.Events) > 0 {
			if e := b.Events[0]; e.Key != "k" || e.Mod != rev {
				t.Errorf("the watch brings %+v, want k at %d", e, rev)
			}
			break
		}
	}
	if ok, _, err := s.Txn(ctx, []store.Cond{{Key: "k", By: store.ByMod, Revision: rev + 1}}, []store.Op{{Key: "k"}}); err != nil || ok {
		t.Errorf("a transaction whose condition does not hold: %v, %v", ok, err)
	}
	if err := s.Revoke(ctx, lease); err != nil {
		t.Error(err)
	}
}

// TestCompact forgets history, and takes it for done if somebody else was faster.
func TestCompact(t *testing.T) {
	t.Parallel()
	e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop() })
	s := open(t, etcd.Config{Endpoints: e.Endpoints(), Root: "r/"})
	var first, last int64
	for range 5 {
		if _, last, err = s.Txn(t.Context(), nil, []store.Op{{Key: "a"}}); err != nil {
			t.Fatal(err)
		}
		first = max(first, last-4)
	}
	for _, revision := range []int64{last, last, first} {
		if err := s.Compact(t.Context(), revision); err != nil {
			t.Errorf("up to %d: %v", revision, err)
		}
	}
	if b := <-s.Watch(t.Context(), "", 1); !errors.Is(b.Err, store.ErrCompacted) {
		t.Errorf("a watch from before brings %+v", b)
	}
}

// TestBothSilent: an error names each member and what it answered.
func TestBothSilent(t *testing.T) {
	t.Parallel()
	r := newRelay(t, strings.TrimPrefix(node.Endpoints()[0], "http://"))
	there, gone := silent(t), r.listener.Addr().String()
	s := open(t, etcd.Config{
		Endpoints: []string{there, gone}, Root: rand.Text() + "/",
		DialTimeout: time.Minute, RequestTimeout: 2 * time.Second, Patience: 50 * time.Millisecond,
	})
	if _, _, _, err := s.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	r.set(true)
	_, _, err := s.Range(t.Context(), "a")
	if err == nil || !strings.Contains(err.Error(), there+": ") || !strings.Contains(err.Error(), gone+": ") {
		t.Errorf("%v, want what %s and %s answered", err, there, gone)
	}
}
