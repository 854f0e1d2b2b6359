//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/ports"
	"go.yaml.in/yaml/v4"
)

const (
	rulesFile = "../../deploy/prometheus/rota.rules.yml"
	rulesTest = "../../deploy/prometheus/rota.rules_test.yml"
	scrapes   = "../../deploy/prometheus/prometheus.yml"
)

// alertRule is an alert as its file has it.
type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// alertRules reads the alerts.
func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	b, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []alertRule } }
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) < 20 {
		t.Fatalf("%d alerts: that cannot be all", len(rules))
	}
	return rules
}

// dashboard is what a test reads of a dashboard.
type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct{ Name, Definition string }
	}
	Panels []struct {
		ID          int
		Title, Type string
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct{ RefID, Expr string }
	}
	Annotations struct{ List []struct{ Expr string } }
}

// exprs are all that a dashboard asks Prometheus.
func (d *dashboard) exprs() (list []string) {
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			list = append(list, q.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		list = append(list, a.Expr)
	}
	return list
}

func dashboards(t *testing.T) (list []dashboard) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if d.UID != strings.TrimSuffix(filepath.Base(f), ".json") {
			t.Errorf("%s has the uid %s", f, d.UID)
		}
		list = append(list, d)
	}
	return list
}

// filled is an expression of a dashboard with values for Grafana's variables.
var filled = strings.NewReplacer("$__rate_interval", "1m", "$cluster", ".*", "$function", ".*").Replace

// promtool runs it.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program(t, "promtool"), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

// TestAlertRules: promtool takes the rules, the configuration and each expression of the
// dashboards; by promtool's clock each alert fires and clears. Each has a severity, words,
// a runbook of one line whose commands there are, and a line in docs/monitoring.md.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", rulesFile)
	promtool(t, "check", "config", scrapes)
	promtool(t, "test", "rules", rulesTest)
	var asked strings.Builder
	asked.WriteString("groups: [{name: dashboards, rules: [\n")
	for _, d := range dashboards(t) {
		for i, expr := range d.exprs() {
			fmt.Fprintf(&asked, "{record: %s, expr: %q},\n", fmt.Sprintf("%s:%d", strings.ReplaceAll(d.UID, "-", "_"), i), filled(expr))
		}
	}
	file := filepath.Join(t.TempDir(), "dashboards.yml")
	if err := os.WriteFile(file, []byte(asked.String()+"]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)

	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	tests, cli, doc := read(rulesTest), read("../../docs/cli.md"), read("../../docs/monitoring.md")
	command := regexp.MustCompile("`rota ([^`]*)`")
	var names []string
	for _, r := range alertRules(t) {
		names = append(names, r.Alert)
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" || r.Annotations["runbook"] == "" || strings.Contains(r.Annotations["runbook"], "\n") {
			t.Errorf("%s lacks a summary or a runbook of one line", r.Alert)
		}
		for _, state := range []string{`exp_samples: [{`, `exp_samples: []`} {
			part := regexp.MustCompile(`(?s)name: ` + r.Alert + `\n(.*?)(\n  - name|\z)`).FindString(tests)
			if !strings.Contains(part, state) {
				t.Errorf("no test of %s with %s", r.Alert, state)
			}
		}
		if !strings.Contains(doc, "| `"+r.Alert+"` |") {
			t.Errorf("docs/monitoring.md lacks %s", r.Alert)
		}
		for _, m := range command.FindAllStringSubmatch(r.Annotations["runbook"], -1) {
			words := strings.Fields(m[1])
			known := false
			for n := range words {
				known = known || strings.Contains(cli, "\n## rota "+strings.Join(words[:n+1], " ")+"\n")
			}
			if !known {
				t.Errorf("%s names the command %q, which there is not", r.Alert, m[0])
			}
			for _, flag := range words {
				if strings.HasPrefix(flag, "--") && !strings.Contains(cli, " "+flag+" ") {
					t.Errorf("%s names %s in %q, which there is not", r.Alert, flag, m[0])
				}
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(Rota[A-Za-z]+)` \\|").FindAllStringSubmatch(doc, -1) {
		if !slices.Contains(names, m[1]) {
			t.Errorf("docs/monitoring.md has %s, which there is not", m[1])
		}
	}
}

// TestMonitoredMetricsExist: what rules and dashboards ask of, and by which labels, is in
// docs/metrics.md, which TestMetricsAreDocumented compares with what programs show.
func TestMonitoredMetricsExist(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{"up": nil, "process_resident_memory_bytes": nil, "process_cpu_seconds_total": nil, "go_goroutines": nil}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)(?:\\{([a-z_, ]*)\\})?` \\| (\\w+)").FindAllStringSubmatch(string(b), -1) {
		own := strings.Split(m[2], ", ")
		if m[1] == "rota_build_info" {
			own = []string{"version", "go_version"}
		}
		labels[m[1]] = own
		if m[3] == "histogram" {
			labels[m[1]+"_bucket"], labels[m[1]+"_count"], labels[m[1]+"_sum"] = append(own, "le"), own, own
		}
	}
	series := regexp.MustCompile(`\b((?:rota|grpc_server|process|go)_[a-z_]+|up\b)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	words := regexp.MustCompile(`"[^"]*"`)
	check := func(where, expr string) {
		names := series.FindAllStringSubmatch(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing: %s", where, expr)
		}
		by := regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(words.ReplaceAllString(expr, `""`), -1)
		var all []string
		for _, n := range names {
			own, ok := labels[n[1]]
			if !ok {
				t.Errorf("%s asks for %s, which nobody shows", where, n[1])
			}
			own = append(slices.Clone(own), "cluster", "job", "instance")
			all = append(all, own...)
			for _, m := range matcher.FindAllStringSubmatch(n[2], -1) {
				if !slices.Contains(own, m[1]) {
					t.Errorf("%s asks for %s by %s, which it has not", where, n[1], m[1])
				}
			}
		}
		for _, list := range by {
			for _, l := range strings.Split(list[1], ",") {
				if !slices.Contains(all, strings.TrimSpace(l)) {
					t.Errorf("%s sums by %s, which none of %v has", where, l, names)
				}
			}
		}
	}
	for _, r := range alertRules(t) {
		check(r.Alert, r.Expr)
	}
	for _, d := range dashboards(t) {
		ids := map[int]bool{}
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			where := d.Title + ": " + p.Title
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s has an id that another has", where)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
						t.Fatalf("%s lies on %q, or off the page", where, other)
					}
					taken[[2]int{x, y}] = where
				}
			}
			if len(p.Targets) == 0 && p.Type != "row" {
				t.Errorf("%s is empty", where)
			}
		}
		for _, expr := range d.exprs() {
			check(d.Title, expr)
			if !strings.Contains(expr, `cluster=~"$cluster"`) {
				t.Errorf("%s asks for all clusters: %s", d.Title, expr)
			}
		}
	}
}

// TestPrometheus has a real Prometheus with the rules of deploy watch a real cluster:
// workers die, the alerts of it fire, the workers come back, and they clear. It answers
// what each alert and dashboard asks.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	path := program(t, "prometheus")
	dir := passable(t)
	env := []string{"HOME=" + dir, "TMPDIR=" + dir}
	web, grpc, at := ports.Addr(t), ports.Addr(t), ports.Addr(t)
	s := start(t, env, rotaBin, "scheduler", "--name", "s1", "--data-dir", filepath.Join(dir, "data"), "--http", web, "--grpc", grpc, "--gateway", ports.Addr(t))
	awaitHTTP(t, "http://"+web+"/readyz")
	var addresses []string
	begin := func(i int) *proc {
		return start(t, env, rotaBin, "worker", "--name", fmt.Sprintf("w%d", i+1), "--schedulers", grpc, "--http", addresses[i], "--demo", "--job-data", filepath.Join(dir, fmt.Sprint("jobs", i)))
	}
	var workers []*proc
	for i := range 2 {
		addresses = append(addresses, ports.Addr(t))
		workers = append(workers, begin(i))
	}
	for _, a := range addresses {
		awaitHTTP(t, "http://"+a+"/readyz")
	}
	var applied struct{}
	call(t, "POST", "http://"+web+"/v1/tasks:apply", `{"tasks":[{"id":"a"},{"id":"b"}]}`, &applied)

	// The configuration and the rules of deploy, with this cluster's addresses, and
	// without the time for which an alert waits.
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(scrapes)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("10.0.0.1:3000, 10.0.0.2:3000, 10.0.0.3:3000", web, "10.0.0.4:9100, 10.0.0.5:9100", strings.Join(addresses, ", "), "15s", "1s").Replace(string(config))
	quick := regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(string(rules), "")
	for name, text := range map[string]string{"prometheus.yml": text, "rota.rules.yml": quick} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start(t, env, path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+at, "--log.level=warn")
	awaitHTTP(t, "http://"+at+"/-/ready")

	firing := func() (names []string) {
		var a struct {
			Data struct {
				Alerts []struct {
					State  string
					Labels map[string]string
				}
			}
		}
		call(t, "GET", "http://"+at+"/api/v1/alerts", "", &a)
		for _, one := range a.Data.Alerts {
			if one.State == "firing" && !slices.Contains(names, one.Labels["alertname"]) {
				names = append(names, one.Labels["alertname"])
			}
		}
		return names
	}
	result := func(expr string) (n int) {
		var r struct {
			Status, Error string
			Data          struct{ Result []json.RawMessage }
		}
		call(t, "GET", "http://"+at+"/api/v1/query?query="+url.QueryEscape(expr), "", &r)
		return len(r.Data.Result)
	}
	await(t, 2*time.Minute, "the cluster, scraped", func() bool {
		return result(`sum(up{cluster="main"}) == 3 and sum(rota_workers{state="ready"}) == 2`) == 1
	})
	of := []string{"RotaTargetDown", "RotaNoWorkers", "RotaWorkerLost"}
	quiet := func() bool {
		return !slices.ContainsFunc(firing(), func(name string) bool { return slices.Contains(of, name) })
	}
	await(t, 2*time.Minute, "quiet", quiet)

	// What the alerts ask for is there, in this cluster already.
	name := regexp.MustCompile(`\b(?:rota|grpc_server)_[a-z_]+`)
	absent := []string{"rota_store_quota_bytes", "rota_gateway_calls_total", "rota_gateway_worker_ready"} // there are none before somebody sets or calls one
	for _, r := range alertRules(t) {
		for _, metric := range name.FindAllString(r.Expr, -1) {
			if !slices.Contains(absent, metric) && result(metric) == 0 {
				t.Errorf("%s asks for %s, which Prometheus has not got", r.Alert, metric)
			}
		}
		_ = result(r.Expr) // it can be asked
	}
	for _, d := range dashboards(t) {
		for _, expr := range d.exprs() {
			_ = result(filled(expr))
		}
	}

	for _, w := range workers {
		w.signal(syscall.SIGKILL)
		w.wait(t, time.Minute)
	}
	await(t, 3*time.Minute, "alerts that workers are dead", func() bool {
		now := firing()
		return !slices.ContainsFunc(of, func(name string) bool { return !slices.Contains(now, name) })
	})
	for i := range workers {
		begin(i)
	}
	await(t, 3*time.Minute, "no alerts, as the workers are back", quiet)
	s.signal(syscall.SIGTERM)
	s.wait(t, time.Minute)
	await(t, 3*time.Minute, "an alert that the scheduler is gone", func() bool { return slices.Contains(firing(), "RotaTargetDown") })
}
