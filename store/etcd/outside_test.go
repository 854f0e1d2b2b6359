package etcd_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// TestUser opens an etcd with authentication.
func TestUser(t *testing.T) {
	t.Parallel()
	e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	admin, err := clientv3.New(clientv3.Config{Endpoints: e.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(admin.UserAdd(ctx, "root", "secret"))
	must(admin.UserGrantRole(ctx, "root", "root"))
	must(admin.UserAdd(ctx, "small", "secret"))
	must(admin.RoleAdd(ctx, "some"))
	must(admin.RoleGrantPermission(ctx, "some", "mine/", clientv3.GetPrefixRangeEnd("mine/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(admin.UserGrantRole(ctx, "small", "some"))
	must(admin.AuthEnable(ctx))

	file := func(password string) string {
		name := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(name, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, c := range map[string]struct{ user, password, root, want string }{
		"root":           {"root", "secret\n", "any/", ""},
		"own prefix":     {"small", "secret", "mine/", ""},
		"other prefix":   {"small", "secret", "other/", "permission denied"},
		"wrong password": {"root", "wrong", "any/", "authentication failed"},
		"nobody":         {"", "", "any/", "user name is empty"},
	} {
		// Hashing passwords takes etcd seconds on a busy machine.
		cfg := etcd.Config{Endpoints: e.Endpoints(), Root: c.root, User: c.user, DialTimeout: time.Minute, RequestTimeout: time.Minute}
		switch {
		case c.user != "" && strings.HasSuffix(c.password, "\n"):
			cfg.PasswordFile = file(c.password)
		case c.user != "":
			cfg.Password = c.password
		}
		s, err := etcd.Open(ctx, cfg)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ok, revision, err := s.Txn(ctx, nil, []store.Op{{Key: "a", Value: []byte("1")}})
		if !ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		if b := <-s.Watch(ctx, "", revision); len(b.Events) != 1 {
			t.Errorf("%s: the watch brings %+v", name, b)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// relay is a way to an etcd that can be cut and mended.
type relay struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	conns    []net.Conn
	cut      bool
}

func newRelay(t *testing.T, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, to: to}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		r.set(true)
		wg.Wait()
	})
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", strings.TrimPrefix(to, "unix://"))
			if err != nil || !r.add(in, out) {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
					_ = pair[1].Close()
				})
			}
		}
	})
	return r
}

func (r *relay) add(in, out net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		_ = out.Close()
		return false
	}
	r.conns = append(r.conns, in, out)
	return true
}

// set cuts all connections, or lets new ones through.
func (r *relay) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.conns = nil
	}
}

// TestCut cuts the connection again and again. The watch must bring every
// revision once and in order, and the store must work when it is back.
func TestCut(t *testing.T) {
	t.Parallel()
	r := newRelay(t, node.Endpoints()[0])
	direct := open(t, etcd.Config{Endpoints: node.Endpoints(), Root: "cut/"})
	far := open(t, etcd.Config{Endpoints: []string{r.listener.Addr().String()}, Root: "cut/", RequestTimeout: 200 * time.Millisecond})
	write := func(s store.Store) (int64, error) {
		_, revision, err := s.Txn(t.Context(), nil, []store.Op{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("1")}})
		return revision, err
	}
	first, err := write(direct)
	if err != nil {
		t.Fatal(err)
	}
	ch := far.Watch(t.Context(), "", first)
	want := []int64{first}
	failed := 0
	for round := range 5 {
		r.set(true)
		if _, err := write(far); err != nil { // what is done of it the watch tells
			failed++
		}
		for range 3 {
			revision, err := write(direct)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, revision)
		}
		r.set(false)
		for len(want) > 0 {
			b, ok := <-ch
			if !ok || b.Err != nil || len(b.Events)%2 != 0 {
				t.Fatalf("round %d: the watch brings %+v, %v", round, b, ok)
			}
			for i := 0; i < len(b.Events); i += 2 {
				if b.Events[i].Mod != b.Events[i+1].Mod || b.Events[i].Mod != want[0] {
					t.Fatalf("round %d: revision %d comes, want %d", round, b.Events[i].Mod, want[0])
				}
				want = want[1:]
			}
		}
	}
	if failed == 0 {
		t.Error("no call failed, so nothing was cut")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if _, _, _, err := far.Get(ctx, "a"); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatalf("it does not come back: %v", err)
		}
	}
}

func BenchmarkReady(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		b.StartTimer()
		e, err := etcd.Embed(b.Context(), etcd.EmbedConfig{DataDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		s, err := etcd.Open(b.Context(), etcd.Config{Endpoints: e.Endpoints()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		if err := e.Stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkTxn(b *testing.B) {
	e, err := etcd.Embed(b.Context(), etcd.EmbedConfig{DataDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = e.Stop() }()
	s, err := etcd.Open(b.Context(), etcd.Config{Endpoints: e.Endpoints()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for name, n := range map[string]int{"1x200B": 1, "60x8KiB": 60} {
		b.Run(name, func(b *testing.B) {
			ops := make([]store.Op, n)
			size := 0
			for i := range ops {
				ops[i] = store.Op{Key: string(rune('a' + i)), Value: make([]byte, 200)}
				if n > 1 {
					ops[i].Value = make([]byte, 8<<10)
				}
				size += len(ops[i].Value)
			}
			b.SetBytes(int64(size))
			for b.Loop() {
				if ok, _, err := s.Txn(b.Context(), nil, ops); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
	b.Run("KeepAlive", func(b *testing.B) {
		id, _, err := s.Grant(b.Context(), time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := s.KeepAlive(b.Context(), id); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestClient opens a store by a client that is there already, and leaves it open.
func TestClient(t *testing.T) {
	t.Parallel()
	client, err := clientv3.New(clientv3.Config{Endpoints: node.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	s, err := etcd.Open(t.Context(), etcd.Config{Client: client, Root: "client/"})
	if err != nil {
		t.Fatal(err)
	}
	lease, _, err := s.Grant(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ok, revision, err := s.Txn(t.Context(), nil, []store.Op{{Key: "a", Value: []byte("1"), Lease: lease}})
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := s.KeepAlive(t.Context(), lease); err != nil {
		t.Error(err)
	}
	if b := <-s.Watch(t.Context(), "", revision); len(b.Events) != 1 {
		t.Errorf("the watch brings %+v", b)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got, err := client.Get(t.Context(), "client/a"); err != nil || len(got.Kvs) != 1 {
		t.Errorf("the client after the store was closed: %v, %v", got, err)
	}
	if _, err := s.KeepAlive(t.Context(), lease); err == nil {
		t.Error("a closed store answers")
	}
}

// TestInspectClient: each endpoint of a client of somebody else's is looked at by itself.
func TestInspectClient(t *testing.T) {
	t.Parallel()
	up := node.Endpoints()[0]
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{up, down, up}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	s, err := etcd.Open(t.Context(), etcd.Config{Client: client, Root: "inspect/"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	members := s.Inspect(t.Context())
	if len(members) != 3 {
		t.Fatalf("%d members: %+v", len(members), members)
	}
	for n, m := range members {
		if want := []string{up, down, up}[n]; m.Endpoint != want || (m.Err == nil) != (want == up) || want == up && m.Version == "" {
			t.Errorf("%+v, want %s", m, want)
		}
	}
}
