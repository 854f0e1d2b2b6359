package etcd_test

import (
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// trio is a cluster of three members in this process.
type trio struct {
	t       *testing.T
	dir     string
	pki     string // an authority; empty without TLS
	members map[string]string
	join    bool

	mu   sync.Mutex
	open map[string]net.Listener // before their members start
}

// newTrio prepares members of these names; their ports are open.
func newTrio(t *testing.T, secure bool, names ...string) *trio {
	t.Helper()
	c := &trio{t: t, dir: t.TempDir(), members: map[string]string{}, open: map[string]net.Listener{}}
	for _, n := range names {
		l := ports.Listen(t)
		c.open[n], c.members[n] = l, l.Addr().String()
	}
	t.Cleanup(func() {
		for _, l := range c.open {
			_ = l.Close()
		}
	})
	if secure {
		c.pki = filepath.Join(c.dir, "pki")
		if _, err := pki.Init(c.pki, "test", 0, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// files are what one of a role and name shows, made at the first time.
func (c *trio) files(role pki.Role, name string) pki.Files {
	c.t.Helper()
	if c.pki == "" {
		return pki.Files{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cert, err := pki.Issue(c.pki, pki.Request{Role: role, Name: name, Hosts: []string{"127.0.0.1"}}, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return pki.Files{CA: filepath.Join(c.pki, pki.CAFile), Cert: cert.File, Key: cert.Key, Revoked: filepath.Join(c.pki, pki.RevokedFile)}
}

// config is how a member starts; its port is open.
func (c *trio) config(name string) etcd.EmbedConfig {
	c.t.Helper()
	c.mu.Lock()
	l := c.open[name]
	delete(c.open, name)
	c.mu.Unlock()
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", c.members[name]); err != nil {
			c.t.Fatal(err)
		}
	}
	return etcd.EmbedConfig{
		DataDir: filepath.Join(c.dir, name), NoSync: true,
		Quorum: &etcd.Quorum{Name: name, Members: maps.Clone(c.members), Listener: l, TLS: c.files(pki.Scheduler, name), Join: c.join},
	}
}

// start starts members at once and waits until they take part.
func (c *trio) start(names ...string) map[string]*etcd.Embedded {
	c.t.Helper()
	var mu sync.Mutex
	out := map[string]*etcd.Embedded{}
	var starting sync.WaitGroup
	for _, name := range names {
		cfg := c.config(name)
		starting.Go(func() {
			e, err := etcd.Embed(c.t.Context(), cfg)
			if err != nil {
				c.t.Errorf("%s: %v", name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = e
		})
	}
	starting.Wait()
	c.t.Cleanup(func() {
		for _, e := range out {
			_ = e.Stop()
		}
	})
	if c.t.Failed() {
		c.t.FailNow()
	}
	return out
}

// names are those of the members, in order.
func (c *trio) names() []string { return slices.Sorted(maps.Keys(c.members)) }

// openOn opens a store on one member.
func openOn(t *testing.T, e *etcd.Embedded) *etcd.Store {
	t.Helper()
	return open(t, etcd.Config{Endpoints: e.Endpoints(), Root: "x/", DialTimeout: time.Minute, RequestTimeout: time.Minute})
}

// TestQuorum: three members that start at once keep one store, which one of them may
// be absent from.
func TestQuorum(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTrio(t, secure, "s1", "s2", "s3")
			all := c.start("s1", "s2", "s3")
			put := func(e *etcd.Embedded, key string) {
				t.Helper()
				if _, _, err := openOn(t, e).Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte(key)}}); err != nil {
					t.Fatalf("%s: %v", key, err)
				}
			}
			has := func(e *etcd.Embedded, key string) {
				t.Helper()
				if kv, ok, _, err := openOn(t, e).Get(t.Context(), key); err != nil || !ok || string(kv.Value) != key {
					t.Errorf("%s: %v %v %v", key, kv, ok, err)
				}
			}
			for _, n := range c.names() {
				put(all[n], "by "+n)
			}
			for _, n := range c.names() {
				for _, by := range c.names() {
					has(all[n], "by "+by)
				}
			}
			for _, n := range c.names() { // each of them is away for a while, the leader among them
				if err := all[n].Stop(); err != nil {
					t.Fatal(err)
				}
				for _, other := range c.names() {
					if other != n {
						put(all[other], "without "+n)
					}
				}
				maps.Copy(all, c.start(n))
				has(all[n], "without "+n)
			}
		})
	}
}

// await waits until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("not in time: %s", what)
		}
	}
}
