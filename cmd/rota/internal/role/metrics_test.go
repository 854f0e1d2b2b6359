package role

import (
	"context"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"

	"github.com/prometheus/client_golang/prometheus"
)

// described are the names of what a registry has, but for those of the Go runtime and the
// process, each with its labels.
func described(list ...*prometheus.Registry) (names []string) {
	parts := regexp.MustCompile(`fqName: "([^"]*)".* variableLabels: \{([^}]*)\}`)
	seen := map[string]bool{}
	for _, r := range list {
		ch := make(chan *prometheus.Desc)
		go func() {
			defer close(ch)
			r.Describe(ch)
		}()
		for d := range ch {
			m := parts.FindStringSubmatch(d.String())
			name := m[1] + "{" + m[2] + "}"
			if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestMetricsAreDocumented: docs/metrics.md lists what schedulers with their gateway, and
// workers, show: every name with its labels, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	st := memory.New()
	t.Cleanup(st.Close)
	listen := func() net.Listener {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "s"}, GRPC: listen(), HTTP: listen(), Gateway: []net.Listener{listen()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	w, err := worker.New(worker.Config{Name: "w", Schedulers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)(?:\\{([a-z_, ]*)\\})?` \\|").FindAllStringSubmatch(string(doc), -1) {
		name := m[1] + "{" + strings.ReplaceAll(m[2], " ", "") + "}"
		if !slices.Contains(listed, name) {
			listed = append(listed, name)
		}
	}
	slices.Sort(listed)
	have := described(s.Metrics(), workerMetrics(w, func() uint64 { return 0 }))
	if !slices.Equal(listed, have) {
		for _, n := range have {
			if !slices.Contains(listed, n) {
				t.Errorf("docs/metrics.md lacks %s", n)
			}
		}
		for _, n := range listed {
			if !slices.Contains(have, n) {
				t.Errorf("docs/metrics.md has %s, which nobody shows", n)
			}
		}
	}
	if len(have) < 40 {
		t.Errorf("%d metrics: that cannot be all", len(have))
	}
}
