// Package admin is how a gateway's admin side is served on a machine, and how the
// commands of its user find it: a unix socket and, for rota start, a token, both
// mode 0600 in the user's directory and named after the gateway's port.
//
// Package command and the schedulers' role serve it, rota route and rota workers
// ask it. It must never open a way to the admin side to another user.
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/userdir"
)

func socketName(port string) string { return "gateway-" + port + ".sock" }
func tokenName(port string) string  { return "gateway-" + port + ".token" }

// Socket serves a gateway's admin side on a unix socket of mode 0600. path
// empty is the one in the user's directory at which rota route looks for a gateway
// of that port. With a path it makes the one there lead to it. The error is only for
// a path that was given: a gateway without an admin socket is better than none.
func Socket(ctx context.Context, g *gateway.Gateway, path, port string, log *slog.Logger) (stop func(), err error) {
	known, noName := userPath(socketName(port))
	if path == "" {
		err := noName
		if err == nil {
			stop, err = serveSocket(ctx, g, known)
		}
		if err != nil {
			log.Warn("no admin socket: rota route cannot reach this gateway", "error", err)
			return func() {}, nil
		}
		return stop, nil
	}
	closeSocket, err := serveSocket(ctx, g, path)
	if err != nil || noName != nil { // it is served; it only has to be named to be found
		return closeSocket, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		closeSocket()
		return nil, err
	}
	if to, err := os.Readlink(known); err == nil && to != abs || os.IsNotExist(err) {
		_ = os.Remove(known)
	}
	linked := os.Symlink(abs, known) == nil // without it is served, too: it only cannot be found by its port
	return func() {
		closeSocket()
		if linked {
			Forget(path, port)
		}
	}, nil
}

// Forget removes the name in the user's directory by which the socket at path is found,
// of a gateway of that port that has ended.
func Forget(path, port string) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return
	}
	known, err := userPath(socketName(port))
	if err != nil {
		return
	}
	if to, err := os.Readlink(known); err == nil && to == abs {
		_ = os.Remove(known)
	}
}

func serveSocket(ctx context.Context, g *gateway.Gateway, path string) (stop func(), err error) {
	ln, err := userdir.Listen(ctx, path)
	if err != nil {
		return func() {}, fmt.Errorf("admin.socket: %w", err)
	}
	go func() { _ = g.ServeAdmin(ln) }()
	return func() { _ = ln.Close() }, nil
}

// userPath is a name in the user's directory, which is made.
func userPath(name string) (string, error) {
	dir, err := userdir.Path()
	if err == nil {
		err = userdir.Make(dir)
	}
	return filepath.Join(dir, name), err
}

// Token leaves a gateway's token in a file that rota workers finds, and that other
// programs of the user may read. remove takes it away again.
func Token(token, port string) (remove func(), err error) {
	path, err := userPath(tokenName(port))
	if err != nil {
		return nil, err
	}
	return userdir.WriteSecret(path, token)
}
