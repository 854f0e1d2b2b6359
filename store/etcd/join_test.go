package etcd_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// expect has a member's list be what is said of it.
func expect(t *testing.T, e *etcd.Embedded, want map[string]string) {
	t.Helper()
	var got []string
	await(t, fmt.Sprintf("members %v", want), func() bool {
		got = nil
		ok := true
		leaders := 0
		for _, p := range e.Peers(t.Context()) {
			state := "votes"
			if !p.Voter {
				state = "joins"
			}
			if p.Err != nil {
				state += ", silent"
			}
			if p.Leader {
				leaders++
			}
			got = append(got, p.Name)
			ok = ok && want[p.Name] == state
		}
		return ok && len(got) == len(want) && leaders == 1
	})
}

// removed removes a member, as soon as the others have been in touch for long enough.
func removed(t *testing.T, e *etcd.Embedded, name string) {
	t.Helper()
	await(t, name+" is removed", func() bool {
		err := e.RemovePeer(t.Context(), name)
		if err != nil && !errors.Is(err, store.ErrNeeded) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// TestReplaced: one of three that is lost for ever is removed, and another joins in its
// place, first one of a new name, then one of the lost one's name and address; what was
// written is there, and what is written meanwhile is not held up for long.
func TestReplaced(t *testing.T) {
	t.Parallel()
	c := newTrio(t, true, "s1", "s2", "s3")
	all := c.start("s1", "s2", "s3")
	s := openOn(t, all["s1"])
	put := func(key string) {
		t.Helper()
		if _, _, err := s.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte(key)}}); err != nil {
			t.Fatal(err)
		}
	}
	put("three")
	expect(t, all["s2"], map[string]string{"s1": "votes", "s2": "votes", "s3": "votes"})
	if err := all["s3"].Stop(); err != nil {
		t.Fatal(err)
	}
	put("two")
	expect(t, all["s2"], map[string]string{"s1": "votes", "s2": "votes", "s3": "votes, silent"})
	if err := all["s1"].RemovePeer(t.Context(), "s2"); !errors.Is(err, store.ErrNeeded) || !strings.Contains(err.Error(), "without s2 there are 2 members, of which 1 answers") {
		t.Errorf("one that is needed: %v", err)
	}
	if err := all["s1"].RemovePeer(t.Context(), "s9"); !errors.Is(err, rota.ErrNotFound) {
		t.Errorf("one that there is not: %v", err)
	}
	removed(t, all["s1"], "s3")

	l := ports.Listen(t)
	old := c.members["s3"]
	delete(c.members, "s3")
	c.members["s4"], c.open["s4"], c.join = l.Addr().String(), l, true
	all["s4"] = c.start("s4")["s4"]
	put("s4 is there")
	expect(t, all["s4"], map[string]string{"s1": "votes", "s2": "votes", "s4": "votes"})

	if err := all["s2"].Stop(); err != nil { // s4 counts
		t.Fatal(err)
	}
	put("with s4")
	if kv, ok, _, err := openOn(t, all["s4"]).Get(t.Context(), "three"); err != nil || !ok || string(kv.Value) != "three" {
		t.Errorf("%v %v %v", kv, ok, err)
	}
	removed(t, all["s1"], "s2")
	delete(c.members, "s2")

	c.members["s3"] = old
	// It has its old data: that is of a member that was removed.
	if e, err := etcd.Embed(t.Context(), c.config("s3")); err == nil || !strings.Contains(err.Error(), "this member was removed from the cluster") {
		t.Errorf("a member that was removed: %v", err)
		if err == nil {
			_ = e.Stop()
		}
	}
	cfg := c.config("s3")
	cfg.DataDir = filepath.Join(c.dir, "s3 anew")
	again, err := etcd.Embed(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Stop() }()
	expect(t, again, map[string]string{"s1": "votes", "s3": "votes", "s4": "votes"})
	put("three again")

	// One that is removed while it runs ends.
	removed(t, again, "s4")
	<-all["s4"].Failed()
	if err := all["s4"].Err(); err == nil || !strings.Contains(err.Error(), "was removed from the cluster") {
		t.Errorf("removed while it runs: %v", err)
	}
}

// TestNotLetIn: whoever cannot join learns why.
func TestNotLetIn(t *testing.T) {
	t.Parallel()
	c := newTrio(t, false, "s1", "s2", "s3")
	c.start("s1", "s2", "s3")
	c.join = true
	for name, x := range map[string]struct {
		as   func(*etcd.Quorum)
		want string
	}{
		"a name that is taken": {func(q *etcd.Quorum) { q.Name, q.Members["s2"] = "s2", q.Listener.Addr().String() }, "s2 is already a member, at " + c.members["s2"]},
		"an address that is taken": {func(q *etcd.Quorum) {
			q.Name, q.Members["s4"] = "s4", q.Members["s2"]
			delete(q.Members, "s2")
		}, c.members["s2"] + " is the address of s2"},
		"no join":                        {func(q *etcd.Quorum) { q.Join, q.Name, q.Members["s4"] = false, "s4", q.Listener.Addr().String() }, "has no member s4 at "},
		"a name that is not in the list": {func(q *etcd.Quorum) { q.Name = "s5" }, `name: "s5": want this scheduler's name in cluster: s1 or s2 or s3`},
	} {
		l := ports.Listen(t)
		c.mu.Lock()
		c.open["s1"] = l
		c.mu.Unlock()
		cfg := c.config("s1")
		cfg.DataDir = filepath.Join(t.TempDir(), "d")
		x.as(cfg.Quorum)
		e, err := etcd.Embed(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", name, err, x.want)
		}
		if err == nil {
			_ = e.Stop()
		}
	}
}

// TestQuorumLost: with one of three nothing can be changed, and it is said which
// members are silent; one alone cannot be removed.
func TestQuorumLost(t *testing.T) {
	t.Parallel()
	c := newTrio(t, false, "s1", "s2", "s3")
	all := c.start("s1", "s2", "s3")
	for _, n := range []string{"s2", "s3"} {
		if err := all[n].Stop(); err != nil {
			t.Fatal(err)
		}
	}
	peers := all["s1"].Peers(t.Context())
	if len(peers) != 3 || store.HaveQuorum(peers) || peers[1].Err == nil || peers[2].Err == nil {
		t.Errorf("%+v", peers)
	}
	for _, n := range []string{"s1", "s2"} {
		if err := all["s1"].RemovePeer(t.Context(), n); !errors.Is(err, store.ErrNoQuorum) {
			t.Errorf("remove %s: %v", n, err)
		}
	}
}
