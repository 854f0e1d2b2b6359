package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/rota-project/rota"
)

// ownerFile says in a data directory which member it is of. One of a node that is
// alone has none.
const ownerFile = "rota.member"

// owner is what ownerFile has.
type owner struct {
	Name    string `json:"name"`
	Address string `json:"address"` // of its peer port
}

// started reports whether a data directory has been a node's before.
func started(dir string) bool { return wal.Exist(filepath.Join(dir, "member", "wal")) }

// claim checks that a data directory is of this member, or of nobody, and makes it
// this member's. The zero member is a node that is alone.
func claim(dir string, me owner) error {
	path := filepath.Join(dir, ownerFile)
	var have owner
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &have)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data_dir: %s: %w", path, err)
	}
	wrong := func(want string, args ...any) error {
		return &rota.FieldError{Field: "data_dir", Value: dir, Want: fmt.Sprintf(want, args...)}
	}
	switch {
	case !started(dir):
		if me == (owner{}) {
			return remove(path)
		}
		return write(path, me)
	case have == me:
		return nil
	case me == (owner{}):
		return wrong("cluster too: the directory has the data of %s, a member of a cluster", have.Name)
	case have == (owner{}):
		return wrong("an empty directory: it has the data of a single scheduler; rota backup and rota restore turn that into a cluster")
	case have.Name != me.Name:
		return wrong("the data of %s: the directory has that of %s", me.Name, have.Name)
	}
	return wrong("the address %s for %s, as before: %s is another; to move the member, remove it and join with an empty directory", have.Address, me.Name, me.Address)
}

// write puts a small file in place in one step.
func write(path string, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path+".new", append(text, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}
