// Package wholefile reads files that are to be in memory whole: configuration,
// certificates, tokens. What is larger than it should be is an error, not memory.
// And it writes files that are there whole or not at all.
package wholefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Most is the limit of files that are small by nature, in bytes.
const Most = 1 << 20

// Read reads the named file, which may have most bytes.
func Read(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return b, nil
}

// Write makes the named file, readable by its owner only, of what fill writes: whole,
// or not at all. A file of that name is replaced if replace says so, and kept otherwise:
// then the error is fs.ErrExist. fill may read what it has written.
func Write(name string, replace bool, fill func(*os.File) error) (err error) {
	if !replace { // before the work; what is made meanwhile is kept as well
		if _, err := os.Lstat(name); err == nil {
			return exists(name)
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".rota-*") // readable by its owner only
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := fill(tmp); err != nil {
		_ = tmp.Close() // it is removed
		return err
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if !replace {
		// A link does not replace a file, as a rename does.
		err := os.Link(tmp.Name(), name)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, err := os.Lstat(name); err == nil { // a file system without links
			return exists(name)
		}
	}
	return os.Rename(tmp.Name(), name)
}

func exists(name string) error { return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist} }
