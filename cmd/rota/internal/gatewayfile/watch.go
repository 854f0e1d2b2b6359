package gatewayfile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/wholefile"
)

// pollEvery is how often the files are looked at. Looking at what they say works on
// every file system, over symbolic links as Kubernetes mounts them, and on renames.
const pollEvery = 500 * time.Millisecond

// tornMost is how many looks in a row a file may be away that is just being replaced.
const tornMost = 3

// Watcher keeps a gateway to what its gateway.yaml and the files that it names say:
// certificates and tokens that are renewed are put in force, too.
type Watcher struct {
	path string
	g    *gateway.Gateway
	log  *slog.Logger

	mu    sync.Mutex
	named []string // besides path
	seen  [sha256.Size]byte
	torn  int // how many looks in a row have found a file away

	cancel context.CancelFunc
	done   chan struct{}
}

// Watch reloads the gateway, which runs from that file, whenever what its files say
// changes, until ctx ends or Stop is called. Files that are wrong change nothing: the
// error goes to the log and to the gateway's status.
func Watch(ctx context.Context, path string, g *gateway.Gateway, log *slog.Logger) *Watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{path: path, g: g, log: log, cancel: cancel, done: make(chan struct{})}
	if raw, err := wholefile.Read(path, maxFile); err == nil {
		_, _ = w.parse(raw) // for the files that it names: it is in force already
	}
	w.seen, _ = w.look()
	go func() {
		defer close(w.done)
		t := time.NewTicker(pollEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				w.poll()
			}
		}
	}()
	return w
}

// Stop ends the watching.
func (w *Watcher) Stop() {
	w.cancel()
	<-w.done
}

// Reload puts the files in force whether they have changed or not.
func (w *Watcher) Reload() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen, _ = w.look()
	w.reload()
}

func (w *Watcher) poll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, whole := w.look()
	if now == w.seen {
		w.torn = 0
		return
	}
	if !whole && w.torn < tornMost {
		w.torn++ // a file that is just being replaced will be there next time
		return
	}
	w.torn, w.seen = 0, now
	w.reload()
}

// look digests what the files say, and which cannot be read. It is not whole if one
// cannot.
func (w *Watcher) look() (sum [sha256.Size]byte, whole bool) {
	h := sha256.New()
	whole = true
	for _, name := range append([]string{w.path}, w.named...) {
		b, err := wholefile.Read(name, maxFile)
		if err != nil {
			b, whole = []byte("cannot be read: "+err.Error()), false
		}
		one := sha256.Sum256(b)
		h.Write(one[:])
	}
	return [sha256.Size]byte(h.Sum(nil)), whole
}

func (w *Watcher) parse(raw []byte) (gateway.Config, error) {
	from := &files{dir: filepath.Dir(w.path), path: w.path}
	cfg, err := parse(raw, from)
	w.named = from.named
	return cfg, err
}

// reload puts the files in force, or says in log and status why not.
func (w *Watcher) reload() {
	raw, err := wholefile.Read(w.path, maxFile)
	var cfg gateway.Config
	if err == nil {
		cfg, err = w.parse(raw)
		w.seen, _ = w.look() // it may name others than before
	}
	Reload(w.path, w.g, cfg, err, w.log)
}

// Reload puts the configuration that a file says in force, or says in log and status
// why not: err is why it cannot be read, if it cannot.
func Reload(path string, g *gateway.Gateway, cfg gateway.Config, err error, log *slog.Logger) {
	if err == nil {
		cfg.Logger = log
		err = g.Reload(cfg)
	}
	if err != nil {
		if !strings.HasPrefix(err.Error(), path) {
			err = fmt.Errorf("%s: %w", path, err)
		}
		g.ReloadFailed(err)
		log.Error("configuration refused; the old one stays in effect", "error", err)
		return
	}
	if later := g.Status().Pending; later != "" {
		log.Warn("configuration reloaded, but not all of it", "file", path, "pending", later)
		return
	}
	log.Info("configuration reloaded", "file", path)
}
