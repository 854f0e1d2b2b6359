package source

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/rota-project/rota"
)

const (
	// Rest is how long a file has to have been as it is before it is taken, unless
	// File is told otherwise: a list that is written in place is not taken half.
	Rest = 3 * time.Second
	// restless is after how many times its rest a file that still changes is told of.
	restless = 10
	// longAgo is the age at which a file that is looked at for the first time has
	// had its rest, whatever the difference between its server's clock and ours is.
	longAgo = time.Minute
	// reread is how often a file is read although nothing about it has changed:
	// there are ways to write that change neither size nor times.
	reread = 30 * time.Second
)

// File is a source of a file that is looked at every so often (zero means each
// second). It is read when its inode, size, or times have changed, and every 30 s,
// and given when its content is new and it has been still for so long (zero means
// Rest). One that goes on changing is an error after ten times that. Only regular
// files are read.
func File(path string, every, rest time.Duration, parse Parse) *Source {
	if every == 0 {
		every = time.Second
	}
	if rest == 0 {
		rest = Rest
	}
	f := &file{path: path, rest: rest, parse: parse}
	return &Source{Name: "file:" + path, Every: every, Read: f.read, Reset: f.reset}
}

// file is a file that is followed.
type file struct {
	path  string
	rest  time.Duration
	parse Parse

	mu    sync.Mutex
	given *content  // what was given last; nil: nothing, or it is wanted again
	now   *content  // what it is now
	since time.Time // when it was first seen as it is
	moved time.Time // when it was first seen other than at rest; zero if it is at rest
}

// content is a file as it was.
type content struct {
	info fs.FileInfo
	sum  [sha256.Size]byte // zero: not read yet
	read time.Time
}

// is reports whether nothing about a file has changed.
func (c *content) is(info fs.FileInfo) bool {
	return c != nil && os.SameFile(c.info, info) && c.info.Size() == info.Size() &&
		c.info.ModTime().Equal(info.ModTime()) && changed(c.info).Equal(changed(info))
}

func (f *file) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given = nil
}

func (f *file) read(context.Context) ([]rota.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, info, err := open(f.path)
	if err != nil {
		f.now = nil
		return nil, err
	}
	defer func() { _ = file.Close() }()
	at := time.Now()
	if !f.now.is(info) {
		f.sees(info, at)
	}
	if f.given.is(info) && at.Sub(f.given.read) < reread {
		return nil, ErrUnchanged
	}
	if at.Sub(f.since) < f.rest {
		return nil, f.moves(at)
	}
	sum, err := digest(file)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	silent := f.given.is(info) && f.given.sum != sum // nothing but the content says that it was written
	if old := f.now.sum; old != sum && (silent || old != [sha256.Size]byte{}) {
		f.now, f.since = &content{info: info, sum: sum}, at
		return nil, f.moves(at)
	}
	f.now = &content{info, sum, at}
	if f.given != nil && f.given.sum == sum {
		f.given, f.moved = f.now, time.Time{}
		return nil, ErrUnchanged
	}
	return f.give(file, at)
}

// give parses a file that is at rest.
func (f *file) give(file *os.File, at time.Time) ([]rota.Task, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	hash := sha256.New()
	tasks, wrong := f.parse(f.path, io.TeeReader(&bounded{file, MaxBytes}, hash))
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if !f.now.is(info) || wrong == nil && [sha256.Size]byte(hash.Sum(nil)) != f.now.sum {
		f.sees(info, at) // written while it was read
		return nil, f.moves(at)
	}
	f.moved = time.Time{}
	if wrong != nil {
		return nil, wrong
	}
	f.given = f.now
	return tasks, nil
}

// sees notes what the file is from now on.
func (f *file) sees(info fs.FileInfo, at time.Time) {
	first := f.now == nil && f.given == nil
	f.now, f.since = &content{info: info}, at
	if first && at.Sub(info.ModTime()) > longAgo && at.Sub(changed(info)) > longAgo {
		f.since = at.Add(-f.rest)
	}
}

// moves is the answer about a file that is not at rest.
func (f *file) moves(at time.Time) error {
	if f.moved.IsZero() {
		f.moved = at
	}
	if at.Sub(f.moved) < restless*f.rest {
		return ErrUnchanged
	}
	return fmt.Errorf("source: %s has been changing for more than %s; it is read once it has been unchanged for %s", f.path, restless*f.rest, f.rest)
}

// open opens a regular file and nothing else, without waiting for anybody.
func open(path string) (*os.File, fs.FileInfo, error) {
	// Some devices do things when they are opened.
	info, err := os.Stat(path)
	if err == nil {
		err = regular(path, info)
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("source: %w", err)
	}
	info, err = file.Stat()
	if err == nil {
		err = regular(path, info) // it may be another one by now
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// regular returns an error that says what a file is if it is none that can be
// followed.
func regular(path string, info fs.FileInfo) error {
	what := "something else"
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a named pipe (FIFO)"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return fmt.Errorf("%s is %s; want a regular file", path, what)
}

// digest reads a file to its end.
func digest(file *os.File) (sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	if n, err := io.Copy(hash, io.LimitReader(file, MaxBytes+1)); err != nil || n > MaxBytes {
		if err == nil {
			err = errTooLong
		}
		return sum, err
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}
