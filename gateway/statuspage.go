package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
)

// asking is the round of questions that /status makes at most once a second,
// however many ask.
type asking struct {
	mu   sync.Mutex
	last time.Time
}

// serveStatus says of each worker in a line whether it is reachable, and what it
// says of itself. Who may use the admin paths learns where the workers are, and
// makes the gateway ask them, as a program of this user does where there is
// LocalAdmin. Anybody else is told what is known, without addresses.
func (g *Gateway) serveStatus(w http.ResponseWriter, r *http.Request, admitted bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
		return
	}
	st := g.state.Load()
	admitted = admitted || g.hasToken(r)
	direct := !admitted && st.cfg.LocalAdmin && g.direct(r) == nil
	if admitted || direct {
		g.askAll(r.Context(), st)
	}
	var b bytes.Buffer
	for i, wk := range st.workers {
		switch {
		case admitted:
			describe(&b, wk, wk.Name, true)
			if out := leftOut(st, wk); len(out) > 0 {
				b.WriteString(" left out for " + strings.Join(out, ", "))
			}
		default:
			name := wk.Name
			if name == wk.URL.String() {
				name = "worker " + strconv.Itoa(i+1)
			}
			describe(&b, wk, name, false)
		}
		b.WriteByte('\n')
	}
	if err := g.lastReloadError(); err != nil {
		b.WriteString("configuration refused, the old one is in force")
		if admitted {
			b.WriteString(": " + outcome.FirstLine(err.Error()))
		}
		b.WriteByte('\n')
	}
	if p := g.Status().Pending; p != "" && admitted {
		b.WriteString(outcome.FirstLine(p) + "\n")
	}
	if len(st.workers) == 0 {
		b.WriteString("no workers\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes())
}

// askAll asks all workers, unless that was done a moment ago.
func (g *Gateway) askAll(ctx context.Context, st *state) {
	g.asking.mu.Lock()
	defer g.asking.mu.Unlock()
	if time.Since(g.asking.last) < time.Second && !anyUnasked(st) {
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for _, wk := range st.workers {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			_, _ = g.askStatus(ctx, wk, st.cfg.Health.Path, st.cfg.Health.Timeout) // it is remembered
		})
	}
	wg.Wait()
	g.asking.last = time.Now()
}

func anyUnasked(st *state) bool {
	for _, wk := range st.workers {
		if wk.Reply.Load() == nil {
			return true
		}
	}
	return false
}

// describe writes a worker's line.
func describe(b *bytes.Buffer, w *upstream.Worker, name string, whole bool) {
	state, cause := w.State()
	b.WriteString(name)
	switch r := w.Reply.Load(); {
	case r == nil:
		b.WriteString(" not asked")
	case r.Err != nil && whole:
		fmt.Fprintf(b, " unreachable (%v)", r.Err)
	case r.Err != nil:
		fmt.Fprintf(b, " unreachable (%s)", inWords(r.Err))
	default:
		fmt.Fprintf(b, " reachable %d %s", r.Status, r.Text)
	}
	if r := w.Reply.Load(); r != nil {
		if ago := time.Since(r.At).Round(time.Second); ago > time.Second {
			fmt.Fprintf(b, ", %s ago", ago)
		}
	}
	fmt.Fprintf(b, " [%s, %d in flight]", state, w.Bal.InFlight())
	if cause != "" && whole {
		b.WriteString(" " + outcome.FirstLine(cause))
	}
}

// inWords is an error without addresses.
func inWords(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return "no answer"
}
