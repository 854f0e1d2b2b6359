package etcd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rota-project/rota/internal/userdir"
)

const (
	socketDir  = "run"  // in the data directory
	socketName = "etcd" // in socketDir
	elsewhere  = "elsewhere"
	// maxSocketPath is what every system takes for a socket's path, in bytes.
	maxSocketPath = 103
)

// ownDir makes the data directory, which only this user may write to: whoever else
// could would put files of their own in the place of ours.
func ownDir(dir string) error {
	if err := userdir.Make(dir); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

// socket is where clients connect: a unix socket in a directory that only this
// user may enter. That is in the data directory, or, where the path would be too
// long for a socket, in one for temporary files; the data directory then says
// which, so that the next start removes it if this one cannot.
type socket struct {
	dir  string
	temp bool
	note string // the file that says where dir is, if temp
}

// newSocket makes the directory.
func newSocket(dataDir string) (*socket, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, err
	}
	s := &socket{dir: filepath.Join(abs, socketDir)}
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := os.Chmod(s.dir, 0o700); err != nil { //nolint:gosec // a directory is entered
		return nil, err
	}
	s.note = filepath.Join(s.dir, elsewhere)
	s.removeEarlier()
	if len(s.path()) <= maxSocketPath {
		return s, nil
	}
	s.temp = true
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		if s.dir, err = os.MkdirTemp(parent, "rota-etcd-*"); err != nil {
			continue
		}
		if len(s.path()) <= maxSocketPath {
			return s, os.WriteFile(s.note, []byte(s.dir), 0o600)
		}
		err = fmt.Errorf("%s: too long for a socket", s.path())
		_ = os.Remove(s.dir)
	}
	return nil, err
}

// removeEarlier removes what a start that was killed has left elsewhere.
func (s *socket) removeEarlier() {
	b, err := os.ReadFile(s.note)
	if err != nil {
		return
	}
	if dir := string(b); strings.HasPrefix(filepath.Base(dir), "rota-etcd-") {
		_ = os.Remove(filepath.Join(dir, socketName)) //nolint:gosec // the note is ours alone
		_ = os.Remove(dir)                            //nolint:gosec // only if nothing else is in it
	}
	_ = os.Remove(s.note)
}

func (s *socket) path() string { return filepath.Join(s.dir, socketName) }

// close removes it.
func (s *socket) close() error {
	if s == nil {
		return nil
	}
	all := []string{s.path()}
	if s.temp {
		all = append(all, s.dir, s.note)
	}
	var err error
	for _, name := range all {
		if e := os.Remove(name); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}
