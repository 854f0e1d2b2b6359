package etcd

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/userdir"
)

// RestoreConfig says what to make a data directory of.
type RestoreConfig struct {
	// File has a snapshot, as Store.Snapshot and etcdctl write it.
	File string
	// DataDir is made. It is empty, or not there.
	DataDir string
	// Name and Address (host:port of the peer port) make it that of the first member of
	// a cluster, which others join; Secure says that its members use TLS. Empty: it is
	// that of a node that is alone.
	Name, Address string
	Secure        bool
}

// ErrNoSnapshot says that a file is no whole snapshot.
var ErrNoSnapshot = errors.New("not a valid backup: the checksum does not match the content")

const (
	// restoredFile says in a data directory that it was restored, until what ran before
	// is surely at its end.
	restoredFile = "rota.restored"
	restoringDir = "rota.restoring"
	// leastBump is by how much revisions grow at the least.
	leastBump = 1_000_000_000
	// revisionsPerSecond is more than any etcd writes: a store that was restored at a
	// time begins at least at so many for each second since revisionEpoch, so that one
	// that is restored later from the same backup begins after all that this one wrote.
	revisionsPerSecond = 1_000_000
)

var revisionEpoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// bump is how much is added to a revision at a restore.
func bump(revision int64, now time.Time) uint64 {
	byTime := int64(now.Sub(revisionEpoch)/time.Second)*revisionsPerSecond - revision
	return uint64(max(byTime, leastBump))
}

// Restore makes a data directory of a snapshot. Its revisions are greater than any
// before, whatever was written since the snapshot, and its history is forgotten. A
// directory is made whole or not at all. An error wraps ErrNoSnapshot, or is a
// *rota.FieldError.
func Restore(cfg RestoreConfig, now time.Time) error {
	if err := CheckSnapshot(cfg.File); err != nil {
		return fmt.Errorf("restore %s: %w", cfg.File, err)
	}
	me, u := owner{}, url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	name := aloneName
	if cfg.Name != "" {
		if err := CheckMembers(map[string]string{cfg.Name: cfg.Address}); err != nil {
			return err
		}
		me, name, u.Host = owner{cfg.Name, cfg.Address}, cfg.Name, cfg.Address
		if cfg.Secure {
			u.Scheme = "https"
		}
	}
	if err := userdir.Make(cfg.DataDir); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	entries, err := os.ReadDir(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	for _, e := range entries {
		if e.Name() != restoringDir { // what a restore has left that was interrupted
			return &rota.FieldError{Field: "data_dir", Value: cfg.DataDir, Want: "an empty directory: it has data that a restore would overwrite"}
		}
	}
	tmp := filepath.Join(cfg.DataDir, restoringDir)
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	f := &failure{ch: make(chan struct{})}
	err = guard(f, func() error {
		m := snapshot.NewV3(serverLogger(nil, f))
		status, err := m.Status(cfg.File)
		if err != nil {
			return fmt.Errorf("%w (%w)", ErrNoSnapshot, err)
		}
		return m.Restore(snapshot.RestoreConfig{
			SnapshotPath: cfg.File, Name: name, OutputDataDir: tmp, PeerURLs: []string{u.String()}, InitialCluster: name + "=" + u.String(),
			InitialClusterToken: rand.Text(), // it is another cluster than the one before
			RevisionBump:        bump(status.Revision, now), MarkCompacted: true,
		})
	})
	if err != nil {
		return fmt.Errorf("restore %s: %w", cfg.File, err)
	}
	if me != (owner{}) {
		if err := write(filepath.Join(cfg.DataDir, ownerFile), me); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(cfg.DataDir, restoredFile), now); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(tmp, "member"), filepath.Join(cfg.DataDir, "member")); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

// CheckSnapshot reports whether a file is a whole snapshot, by the checksum at its end.
func CheckSnapshot(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size() - sha256.Size
	if !info.Mode().IsRegular() || size <= 0 || size%512 != 0 {
		return ErrNoSnapshot
	}
	h, want := sha256.New(), make([]byte, sha256.Size)
	if _, err := io.CopyN(h, f, size); err != nil {
		return err
	}
	if _, err := io.ReadFull(f, want); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return ErrNoSnapshot
	}
	return nil
}

// Restored reports whether the data directory was restored from a backup and Fenced was
// not called since: others may still run what they were granted before.
func (e *Embedded) Restored() bool {
	_, err := os.Lstat(filepath.Join(e.dir, restoredFile))
	return err == nil
}

// Fenced says that whatever ran before the restore is at its end.
func (e *Embedded) Fenced() error { return remove(filepath.Join(e.dir, restoredFile)) }
