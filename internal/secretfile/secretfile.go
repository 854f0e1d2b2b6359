// Package secretfile reads files with keys, tokens and passwords. It refuses one
// that other users of the machine may read or change, and says how to mend that.
// Whatever reads such a file reads it here.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxSize is the most bytes that Read takes.
const maxSize = 1 << 20

// ErrOpen is what the error of Read wraps if others may read or change the file.
var ErrOpen = errors.New("the file is open to other users")

// Read returns what is in a file, at most maxSize bytes.
func Read(path string) ([]byte, error) { return ReadUpTo(path, maxSize) }

// ReadUpTo returns what is in a file of at most limit bytes.
func ReadUpTo(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	// Of the file that is open, not of what has the name now.
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := check(path, fi); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, nil
}

// Check is nil, or the error with which Read would refuse the file for who may
// read it.
func Check(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	return check(path, fi)
}

// judge applies the rule: the owner is this user or root, and nobody else may do
// anything with the file. Where it belongs to root, and this user is another, the
// group may read it: without that nobody could hand the file over.
func judge(path string, mode fs.FileMode, owner, self int) error {
	allowed := fs.FileMode(0o700)
	switch owner {
	case self:
	case 0:
		allowed = 0o740
	default:
		return fmt.Errorf("%s belongs to user %d, who could change it: %w; chown %d %s", path, owner, ErrOpen, self, quote(path))
	}
	if mode.Perm()&^allowed != 0 {
		return fmt.Errorf("%s has mode %04o: %w; chmod %o %s", path, mode.Perm(), ErrOpen, allowed&0o640, quote(path))
	}
	return nil
}

// quote makes a path one word of a shell.
func quote(path string) string {
	if path != "" && strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@%,:=") == "" && path[0] != '-' {
		return path
	}
	if strings.HasPrefix(path, "-") {
		path = "./" + path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
