package source_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/source"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parse takes words for ids; "bad" is an error.
func parse(name string, r io.Reader) ([]rota.Task, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var out []rota.Task
	for _, id := range strings.Fields(string(data)) {
		if id == "bad" {
			return nil, errors.New("bad list")
		}
		out = append(out, rota.Task{ID: id, Group: filepath.Base(name)})
	}
	return out, nil
}

// wants reads s and compares: ids, or the text of the error.
func wants(t *testing.T, s *source.Source, want string) {
	t.Helper()
	tasks, err := s.Read(t.Context())
	var got []string
	for _, x := range tasks {
		got = append(got, x.ID)
	}
	switch {
	case err != nil && (want == "" || !strings.Contains(err.Error(), want)), err == nil && strings.Join(got, " ") != want:
		t.Errorf("read %v, %v; want %q", got, err, want)
	}
}

func TestFunc(t *testing.T) {
	t.Parallel()
	s := source.Func("f", func(context.Context) ([]rota.Task, error) { return []rota.Task{{ID: "a"}}, nil })
	if s.Name != "f" || s.Reset != nil {
		t.Errorf("%+v", s)
	}
	wants(t, s, "a")
	wants(t, s, "a")
}

func TestURL(t *testing.T) {
	t.Parallel()
	var answer atomic.Pointer[http.HandlerFunc]
	var asked atomic.Pointer[string]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tag := r.Header.Get("If-None-Match")
		asked.Store(&tag)
		(*answer.Load())(w, r)
	}))
	defer srv.Close()
	defer srv.Client().CloseIdleConnections()
	s := source.URL(srv.URL+"/tasks", 0, srv.Client(), parse)
	if s.Every != 10*time.Second {
		t.Errorf("every %s", s.Every)
	}
	step := func(f http.HandlerFunc, tag, want string) {
		t.Helper()
		answer.Store(&f)
		wants(t, s, want)
		if got := *asked.Load(); got != tag {
			t.Errorf("asked with tag %q, want %q", got, tag)
		}
	}
	list := func(etag, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if etag != "" {
				w.Header().Set("ETag", etag)
			}
			_, _ = io.WriteString(w, text)
		}
	}
	code := func(c int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c) }
	}
	step(code(304), "", "304") // nobody asked whether anything changed
	step(list(`"1"`, "a b"), "", "a b")
	step(code(304), `"1"`, "unchanged")
	step(code(500), `"1"`, "500")
	step(code(204), `"1"`, "204")
	step(list(`"2"`, "bad"), `"1"`, "bad list")
	step(list("", ""), `"1"`, "source: empty")
	step(list(`"3"`, "c"), `"1"`, "c")
	s.Reset()
	step(list("", "d"), "", "d")
	step(list(`"4"`, "e"), "", "e")
	step(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "f g") // and no more
	}, `"4"`, "unexpected EOF")
	step(func(_ http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, `"4"`, "EOF")

	ctx, cancel := context.WithCancel(t.Context())
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	answer.Store(&hang)
	if _, err := s.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("given up with %v", err)
	}
	wants(t, source.URL("http://127.0.0.1:1\x7f/", 0, srv.Client(), parse), "source:")
	wants(t, source.URL("gopher://127.0.0.1/", 0, srv.Client(), parse), "unsupported protocol")
}

// TestFormat: the ending of the path tells the format if it says one, else the
// type of the content does.
func TestFormat(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		_, _ = io.WriteString(w, "a")
	}))
	defer srv.Close()
	defer srv.Client().CloseIdleConnections()
	for _, c := range [][3]string{
		{"/x.csv", "application/json", "x.csv"},
		{"/X.YAML", "", "X.YAML"},
		{"/list.php", "application/json; charset=utf-8", "tasks.json"},
		{"/v1.2", "text/csv", "tasks.csv"},
		{"/", "application/x-ndjson", "tasks.jsonl"},
		{"/", "application/yaml", "tasks.yaml"},
		{"/", "text/plain", "tasks"},
		{"/", ";;;", "tasks"},
	} {
		s := source.URL(fmt.Sprintf("%s%s?type=%s", srv.URL, c[0], strings.NewReplacer(" ", "+", ";", "%3b").Replace(c[1])), 0, srv.Client(), parse)
		tasks, err := s.Read(t.Context())
		if err != nil || len(tasks) != 1 || tasks[0].Group != c[2] {
			t.Errorf("%v: %v %v", c, tasks, err)
		}
	}
}
