// Package userdir is the directory in which the processes of one user of a machine
// find each other: sockets and secrets that no other user may see.
//
// A gateway puts its admin socket there, rota start its token, and the commands
// that ask them look there. Data directories and authorities are held to the same
// rule (Make). It must never use a directory or a file that another
// user may write to or read.
package userdir

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rota-project/rota/internal/secretfile"
)

// Path is where the directory is: $XDG_STATE_HOME/rota, else ~/.local/state/rota.
// The error says what is missing.
func Path() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil || !filepath.IsAbs(home) {
			return "", errors.New("neither HOME nor XDG_STATE_HOME is a directory")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "rota"), nil
}

// Make makes a directory of this user alone, mode 0700, if it is not there, and
// returns an error if others may write to it, as its owner may, who is neither this
// user nor root.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	case fi.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s: want a directory that nobody else may write to: chmod go-w %s", dir, dir)
	}
	return mine(fi, dir)
}

// Listen listens on a unix socket that only this user may connect to, mode 0600.
// One that a process has left behind is replaced; one that somebody listens on is
// an error. Closing the listener removes the socket.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("%s is in use by another process", path)
	}
	// It gets its name only when its mode is right: nobody can connect before. Its
	// first name is as short as can be, because names of sockets are.
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	first := filepath.Join(tmp, "s")
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", first)
	if err != nil {
		if errors.Is(err, syscall.EINVAL) {
			err = fmt.Errorf("%s: too long for the name of a socket: want at most about 90 bytes", path)
		}
		return nil, err
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	err = os.Chmod(first, 0o600)
	if err == nil {
		err = os.Rename(first, path)
	}
	if err != nil {
		_ = ln.Close()
		return nil, err
	}
	made, err := os.Stat(path)
	if err != nil {
		_ = ln.Close()
		return nil, err
	}
	return &socket{ln, path, made}, nil
}

type socket struct {
	net.Listener
	path string
	made os.FileInfo
}

// Close also removes the socket, if it is still this one.
func (s *socket) Close() error {
	err := s.Listener.Close()
	if fi, e := os.Lstat(s.path); e == nil && os.SameFile(fi, s.made) {
		_ = os.Remove(s.path)
	}
	return err
}

// WriteSecret writes a secret to a file of mode 0600, in place of what was there.
// remove takes the file away again, if it is still this one.
func WriteSecret(path, secret string) (remove func(), err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".t") // mode 0600
	if err != nil {
		return nil, err
	}
	_, err = tmp.WriteString(secret + "\n")
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return nil, err
	}
	return func() {
		if s, err := Secret(path); err == nil && s == secret {
			_ = os.Remove(path)
		}
	}, nil
}

// Secret reads a line with a secret from a file that nobody else may read.
func Secret(path string) (string, error) {
	b, err := secretfile.Read(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" || strings.ContainsAny(secret, "\r\n") || len(secret) > 4096 {
		return "", fmt.Errorf("%s: want a line with a secret", path)
	}
	return secret, nil
}

// Dialer connects to a socket instead of the address that it is given.
func Dialer(path string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		return d.DialContext(ctx, "unix", path)
	}
}
