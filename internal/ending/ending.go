// Package ending turns signals into the end of a process: the first one asks it
// to end in order, a second one ends it at once.
//
// cmd/rota and the roles of the binary call it. Signals belong to the whole
// process, and so does the state of this package; a library must never use it.
package ending

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rota-project/rota/internal/logs"
)

// atOnce bounds what is still done after the second signal.
const atOnce = 2 * time.Second

var (
	mu    sync.Mutex
	hooks []*func() string // in the order of Left
)

// Watch returns a context that ends at the first SIGINT or SIGTERM. At the
// second the process says what it leaves and exits with 128 and the signal's
// number. Stop gives the signals their usual meaning back.
func Watch(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go watch(ctx, cancel, signals)
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}

// Hangup makes the end of ctx's terminal (SIGHUP) mean what SIGTERM does, unless
// the process was started with the signal ignored, as nohup does. It is for
// roles that reload nothing. From then on SIGHUP never ends the process at once, not
// even after ctx has ended: a terminal that closes sends it twice, once from the
// kernel and once from its shell, and a service manager may send it right after
// SIGTERM.
func Hangup(parent context.Context) context.Context {
	if signal.Ignored(syscall.SIGHUP) {
		return parent
	}
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		for range signals {
			cancel()
		}
	}()
	return ctx
}

// watch ends ctx at the first signal and the process at the next.
func watch(ctx context.Context, cancel context.CancelFunc, signals <-chan os.Signal) {
	select {
	case <-signals:
		cancel()
	case <-ctx.Done(): // asked to end by another: the next ends it at once
	}
	s := <-signals
	end(s)
}

// Left registers what a process that ends at once leaves behind: f does what must
// be done even then, quickly, and says in a few words what is left; "" is
// nothing. Those registered last are called first. Remove takes f back.
func Left(f func() string) (remove func()) {
	mu.Lock()
	defer mu.Unlock()
	hooks = append(hooks, &f)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		hooks = slices.DeleteFunc(hooks, func(h *func() string) bool { return h == &f })
	}
}

func end(s os.Signal) {
	said := make(chan string, 1)
	go func() { said <- left() }()
	var words string
	select {
	case words = <-said:
	case <-time.After(atOnce):
		words = "what was left could not be found out in time"
	}
	if words == "" {
		words = "nothing was left"
	}
	logs.Last("rota: ended at once (%s): %s", s, words)
	status := 128
	if n, ok := s.(syscall.Signal); ok {
		status += int(n)
	}
	os.Exit(status)
}

// left asks everybody.
func left() string {
	mu.Lock()
	list := slices.Clone(hooks)
	mu.Unlock()
	var words []string
	for _, f := range slices.Backward(list) {
		if w := (*f)(); w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, "; ")
}
