package etcd_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// save writes a snapshot of a store into a file.
func save(t *testing.T, s *etcd.Store) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// begin starts a node that is alone.
func begin(t *testing.T, dir string) (*etcd.Embedded, *etcd.Store) {
	t.Helper()
	e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop() })
	return e, openOn(t, e)
}

func write(t *testing.T, s *etcd.Store, key string) (revision int64) {
	t.Helper()
	_, revision, err := s.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte(key)}})
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// TestRestore: what was in a store when it was copied is in the one that is restored,
// what came later is not, and revisions are greater than all before, also when the same
// copy is restored twice.
func TestRestore(t *testing.T) {
	t.Parallel()
	_, s := begin(t, filepath.Join(t.TempDir(), "d"))
	write(t, s, "kept")
	file := save(t, s)
	last := int64(0)
	for n := range 50 {
		last = write(t, s, fmt.Sprint("later", n))
	}
	now := time.Now()
	for n := range 3 {
		dir := filepath.Join(t.TempDir(), "d")
		if err := etcd.Restore(etcd.RestoreConfig{File: file, DataDir: dir}, now.Add(time.Duration(n)*time.Minute)); err != nil {
			t.Fatal(err)
		}
		e, s := begin(t, dir)
		if !e.Restored() {
			t.Error("nobody knows that it was restored")
		}
		kvs, revision, err := s.Range(t.Context(), "")
		if err != nil || len(kvs) != 1 || kvs[0].Key != "kept" || string(kvs[0].Value) != "kept" {
			t.Errorf("%v %v", kvs, err)
		}
		if next := write(t, s, "after"); next <= last || revision <= last {
			t.Errorf("revisions go on at %d and %d after %d", revision, next, last)
		} else {
			last = next + 40_000_000 // as many as it could write until the next restore
		}
		if err := e.Fenced(); err != nil || e.Restored() {
			t.Errorf("still restored, %v", err)
		}
		if err := e.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoreOfCluster: the first member of a cluster is restored, and others join.
func TestRestoreOfCluster(t *testing.T) {
	t.Parallel()
	_, old := begin(t, filepath.Join(t.TempDir(), "d"))
	write(t, old, "kept")
	file := save(t, old)
	c := newTrio(t, true, "s1", "s2", "s3")
	if err := etcd.Restore(etcd.RestoreConfig{File: file, DataDir: filepath.Join(c.dir, "s1"), Name: "s1", Address: c.members["s1"], Secure: true}, time.Now()); err != nil {
		t.Fatal(err)
	}
	all := c.start("s1")
	c.join = true
	for _, n := range []string{"s2", "s3"} {
		all[n] = c.start(n)[n]
	}
	expect(t, all["s3"], map[string]string{"s1": "votes", "s2": "votes", "s3": "votes"})
	if err := all["s1"].Stop(); err != nil {
		t.Fatal(err)
	}
	s := openOn(t, all["s2"])
	if kv, ok, _, err := s.Get(t.Context(), "kept"); err != nil || !ok || string(kv.Value) != "kept" {
		t.Errorf("%v %v %v", kv, ok, err)
	}
	write(t, s, "without the first")
	file = save(t, s)
	lost := open(t, etcd.Config{Endpoints: all["s2"].Endpoints(), Root: "x/", DialTimeout: time.Minute, RequestTimeout: 2 * time.Second})
	// Without a quorum nobody knows what there is.
	if err := all["s3"].Stop(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := lost.Snapshot(t.Context(), &b); !errors.Is(err, store.ErrNoQuorum) || b.Len() > 0 {
		t.Errorf("without a quorum: %d bytes, %v", b.Len(), err)
	}
	if err := etcd.CheckSnapshot(file); err != nil {
		t.Error(err)
	}
}

// TestBadBackups: a file that is no whole snapshot, and a directory that is not empty,
// are refused, and nothing is made of them.
func TestBadBackups(t *testing.T) {
	t.Parallel()
	_, s := begin(t, filepath.Join(t.TempDir(), "d"))
	write(t, s, "kept")
	good, err := os.ReadFile(save(t, s))
	if err != nil {
		t.Fatal(err)
	}
	altered := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	for name, text := range map[string][]byte{
		"empty": nil, "a text": []byte("rota"), "cut by a byte": good[:len(good)-1], "cut by a page": good[:len(good)-4096],
		"without its checksum": good[:len(good)-32], "cut in half": good[:len(good)/1024*512+32], "longer": append(bytes.Clone(good), make([]byte, 512)...),
		"altered at its begin": altered(0), "altered": altered(len(good) / 2), "altered at its end": altered(len(good) - 1),
		"zeroes": make([]byte, 4096+32),
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "backup")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, "to")
		err := etcd.Restore(etcd.RestoreConfig{File: file, DataDir: to}, time.Now())
		if !errors.Is(err, etcd.ErrNoSnapshot) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(to); err == nil && len(left) > 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "backup")
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]etcd.RestoreConfig{
		"data_dir": {File: file, DataDir: dir},
		"missing":  {File: file + ".missing", DataDir: filepath.Join(dir, "to")},
		"cluster":  {File: file, DataDir: filepath.Join(dir, "to"), Name: "s1", Address: "127.0.0.1"},
	} {
		if err := etcd.Restore(cfg, time.Now()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
	// One that was interrupted is done again.
	to := filepath.Join(t.TempDir(), "to")
	if err := os.MkdirAll(filepath.Join(to, "rota.restoring", "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := etcd.Restore(etcd.RestoreConfig{File: file, DataDir: to}, time.Now()); err != nil {
		t.Error(err)
	}
}
