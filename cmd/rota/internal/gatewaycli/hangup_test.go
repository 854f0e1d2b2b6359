//go:build unix

package gatewaycli_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/memo"
	"github.com/rota-project/rota/internal/test/ports"
)

// A hangup, as service managers send it to have files read again, does not end what
// runs: it reloads.
func TestHangupReloads(t *testing.T) {
	t.Parallel()
	serve := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	one, two := serve("one"), serve("two")
	for name, tc := range map[string]struct {
		args []string
		file string
		text func(port int, worker string) string
	}{
		"gateway": {[]string{"gateway", "-c"}, "g.yaml", func(port int, worker string) string {
			return fmt.Sprintf("listen: 127.0.0.1:%d\nworkers: [%q]", port, worker)
		}},
		"start": {[]string{"start", "-c"}, "ol.json", func(port int, worker string) string {
			return fmt.Sprintf(`{"host": "127.0.0.1", "port": %d, "workers": [%q]}`, port, worker)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := ports.Free(t)
			file := write(t, tc.file, tc.text(port, one))
			ctx, stop := context.WithCancel(t.Context())
			var out, errOut memo.Buffer
			done := make(chan error, 1)
			go func() { done <- run(ctx, &out, &errOut, append(tc.args, file)...) }()
			ask := func() string {
				resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/run/f", port))
				if err != nil {
					return err.Error()
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				return string(b)
			}
			until := func(what string, cond func() bool) {
				t.Helper()
				for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s\n%s", what, errOut.String())
					}
				}
			}
			until("it never listened", func() bool { return strings.Contains(errOut.String(), "gateway on http://") && ask() == "one" })
			replace := func(text string) { // at once: a hangup of the other test may come in between
				t.Helper()
				if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(file+".new", file); err != nil {
					t.Fatal(err)
				}
			}
			replace(tc.text(port+1, two))
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			until("the new file is not in force", func() bool { return ask() == "two" })
			until("nobody says that listen takes a restart", func() bool { return strings.Contains(errOut.String(), "takes a restart") })
			replace("{")
			_ = syscall.Kill(os.Getpid(), syscall.SIGHUP)
			until("nobody says that the file is wrong", func() bool { return strings.Contains(errOut.String(), "configuration refused") })
			if ask() != "two" {
				t.Error("a wrong file changed something")
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
