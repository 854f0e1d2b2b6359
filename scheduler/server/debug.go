package server

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"

	"github.com/rota-project/rota/internal/address"
)

// debug answers what admins look into a scheduler with: what package net/http/pprof
// has below /debug/pprof/, its configuration at /debug/config as JSON, and its last
// log lines at /debug/log.
func debug(c *Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, "text/plain; charset=utf-8", arguments(os.Args))
	})
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	if c.Settings != nil {
		mux.HandleFunc("GET /debug/config", func(w http.ResponseWriter, _ *http.Request) {
			text, err := json.MarshalIndent(c.Settings(), "", "  ")
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			answer(w, "application/json", text)
		})
	}
	if c.LastLog != nil {
		mux.HandleFunc("GET /debug/log", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, "text/plain; charset=utf-8", c.LastLog())
		})
	}
	return mux
}

// arguments are those of a process as package net/http/pprof answers them, divided by
// zero bytes, but each address without its secrets.
func arguments(args []string) []byte {
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = address.Text(a)
	}
	return []byte(strings.Join(shown, "\x00"))
}

func answer(w http.ResponseWriter, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // who asked may be gone
}
