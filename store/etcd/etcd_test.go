package etcd_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/storetest"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// node is the etcd of all tests; each has a root of its own.
var node *etcd.Embedded

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rota-etcd-")
	if err == nil {
		node, err = etcd.Embed(context.Background(), etcd.EmbedConfig{DataDir: dir, NoSync: true})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := node.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func open(t *testing.T, cfg etcd.Config) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: node.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	for name, cfg := range map[string]etcd.Config{"endpoints": {Endpoints: node.Endpoints()}, "node": {Node: node}} {
		t.Run(name, func(t *testing.T) {
			base := "conformance-" + rand.Text() + "/" // its own each time it is repeated
			storetest.Run(t, storetest.Target{
				Open: func(t *testing.T, root string) store.Store {
					cfg := cfg
					cfg.Root = base + root
					return open(t, cfg)
				},
				Compact: func(ctx context.Context, revision int64) error {
					_, err := client.Compact(ctx, revision)
					return err
				},
			})
		})
	}
}

// TestRestart keeps what was written, over an orderly stop with a watch open.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mod int64
	for round := range 3 {
		e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, etcd.Config{Endpoints: e.Endpoints(), Root: "r/"})
		kv, ok, _, err := s.Get(t.Context(), "a")
		if err != nil || ok != (round > 0) || kv.Mod != mod {
			t.Fatalf("round %d: %+v, %v, %v; want revision %d", round, kv, ok, err, mod)
		}
		if _, mod, err = s.Txn(t.Context(), nil, []store.Op{{Key: "a", Value: []byte{byte(round)}}}); err != nil {
			t.Fatal(err)
		}
		ch := s.Watch(t.Context(), "", mod)
		if b := <-ch; len(b.Events) != 1 {
			t.Fatalf("the watch brings %+v", b)
		}
		if _, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: dir}); !errors.Is(err, etcd.ErrDataDirInUse) || !strings.Contains(err.Error(), dir) {
			t.Errorf("a second node in %s: %v", dir, err)
		}
		if e.Err() != nil {
			t.Error(e.Err())
		}
		for range 2 {
			if err := e.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestNotThere asks for an etcd where nothing listens.
func TestNotThere(t *testing.T) {
	t.Parallel()
	start := time.Now()
	_, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{"127.0.0.1:1"}, DialTimeout: 300 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// TestComesLater asks for an etcd that is started a little later.
func TestComesLater(t *testing.T) {
	t.Parallel()
	first, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	address := first.Endpoints()[0]
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		s, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{address}, DialTimeout: time.Minute})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	second, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: t.TempDir(), Listen: strings.TrimPrefix(address, "http://"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
	if err := second.Stop(); err != nil {
		t.Error(err)
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	blank := filepath.Join(t.TempDir(), "blank")
	if err := os.WriteFile(blank, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"127.0.0.1:1"}
	for field, cfg := range map[string]etcd.Config{
		"endpoints":            {},
		"endpoints: \"\"":      {Endpoints: []string{""}},
		"endpoints: \"http:":   {Endpoints: []string{"http://"}},
		"timeout":              {Endpoints: at, DialTimeout: -1},
		"password_file":        {Endpoints: at, User: "u"},
		"password_file: open":  {Endpoints: at, User: "u", PasswordFile: blank + "x"},
		"password_file: \"/":   {Endpoints: at, User: "u", PasswordFile: blank},
		"cert_file":            {Endpoints: at, KeyFile: blank},
		"password: \"\"":       {Endpoints: at, Password: "p"},
		"password_file beside": {Endpoints: at, User: "u", Password: "p", PasswordFile: blank},
		"tls: ":                {Endpoints: at, TLS: &tls.Config{MinVersion: tls.VersionTLS13}, CAFile: blank},
		"client: ":             {Endpoints: at, Client: &clientv3.Client{}},
		"client":               {Client: &clientv3.Client{}, User: "u", Password: "p"},
		"any PEM data":         {Endpoints: at, KeyFile: blank, CertFile: blank},
		"authority: /":         {Endpoints: at, CAFile: blank},
		"authority: open":      {Endpoints: at, CAFile: blank + "x"},
	} {
		if _, err := etcd.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, cfg := range map[string]etcd.EmbedConfig{
		"data_dir": {},
		"listen":   {DataDir: t.TempDir(), Listen: "0.0.0.0:0"},
	} {
		var fe *rota.FieldError
		if _, err := etcd.Embed(t.Context(), cfg); !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: filepath.Join(blank, "x")}); err == nil || !strings.Contains(err.Error(), "data_dir") {
		t.Errorf("a data directory below a file: %v", err)
	}
}

// TestBrokenData starts on a write-ahead log that is none: an error, no crash.
func TestBrokenData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wal := filepath.Join(dir, "member", "wal")
	if err := os.MkdirAll(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(wal, "0000000000000000-0000000000000000.wal"), []byte("this is no log at all, and long enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: dir})
	if err == nil {
		t.Errorf("it starts: %v", e.Stop())
	} else if !strings.Contains(err.Error(), dir) {
		t.Errorf("%v does not name the directory", err)
	}
}

// TestRenewals renews many leases at once, some of which have ended, over
// streams that break meanwhile: each renewal is answered for its own lease.
func TestRenewals(t *testing.T) {
	t.Parallel()
	s := open(t, etcd.Config{Endpoints: node.Endpoints(), Root: t.Name() + "/"})
	const leases = 60
	ids := make([]store.LeaseID, leases)
	for n := range ids {
		id, _, err := s.Grant(t.Context(), time.Minute+time.Duration(n)*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		ids[n] = id
		if n%3 == 0 {
			if err := s.Revoke(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	var group sync.WaitGroup
	var confirmed, ended, broken atomic.Int64
	for n, id := range ids {
		group.Go(func() {
			for range 50 {
				ttl, err := s.KeepAlive(t.Context(), id)
				switch {
				case n%3 == 0 && errors.Is(err, store.ErrLeaseNotFound):
					ended.Add(1)
				case errors.Is(err, etcd.ErrStreamBroken):
					broken.Add(1)
				case n%3 == 0 || err != nil || ttl != time.Minute+time.Duration(n)*time.Second:
					t.Errorf("lease %d: renewed for %v, %v", n, ttl, err)
				default:
					confirmed.Add(1)
				}
			}
		})
	}
	for range 5 {
		s.BreakRenewals()
	}
	group.Wait()
	if confirmed.Load() < leases || ended.Load() < leases/3 {
		t.Errorf("%d renewals confirmed, %d of ended leases, %d broken: too few to mean anything", confirmed.Load(), ended.Load(), broken.Load())
	}
}
