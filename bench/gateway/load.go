package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load is one way to call.
type load struct {
	name string
	tool string
	port func(*gateway) int
	args func(l *lab, g *gateway) ([]string, error)
}

var loads = []load{
	{"GET", "wrk", plain, func(_ *lab, g *gateway) ([]string, error) {
		return wrk(fmt.Sprintf("http://127.0.0.1:%d/run/hello", g.http)), nil
	}},
	{"POST of 1 KiB", "wrk", plain, func(l *lab, g *gateway) ([]string, error) {
		lua, err := l.file("post.lua", `wrk.method = "POST"; wrk.body = string.rep("x", 1024)`)
		return append([]string{"-s", lua}, wrk(fmt.Sprintf("http://127.0.0.1:%d/run/hello", g.http))...), err
	}},
	{"GET over TLS", "wrk", secure, func(_ *lab, g *gateway) ([]string, error) {
		return wrk(fmt.Sprintf("https://127.0.0.1:%d/run/hello", g.https)), nil
	}},
	{"GET over HTTP/2 and TLS", "h2load", secure, func(l *lab, g *gateway) ([]string, error) {
		return h2load(l, g), nil
	}},
	{"POST of 1 KiB over HTTP/2 and TLS", "h2load", secure, func(l *lab, g *gateway) ([]string, error) {
		body, err := l.file("kilobyte", strings.Repeat("x", 1024))
		return append([]string{"-d", body}, h2load(l, g)...), err
	}},
}

// h2load spreads as many calls at once over fewer connections.
func h2load(l *lab, g *gateway) []string {
	return []string{
		"-D", strconv.Itoa(int(seconds.Seconds())), "-t1", "-c", strconv.Itoa(max(*conns/8, 1)), "-m8", "--log-file", l.calls(),
		fmt.Sprintf("https://127.0.0.1:%d/run/hello", g.https),
	}
}

func plain(g *gateway) int  { return g.http }
func secure(g *gateway) int { return g.https }

func wrk(url string) []string {
	return []string{"-t1", "-c", strconv.Itoa(*conns), "-d", strconv.Itoa(int(seconds.Seconds())) + "s", "--latency", url}
}

// result is one round. allocs is -1 where it is not known.
type result struct{ calls, p50, p99, cpu, allocs float64 }

// leastCalls is how many calls a round must have made to mean anything.
const leastCalls = 1000

func (l *lab) measure(g *gateway, ld load) (result, error) {
	args, err := ld.args(l, g)
	if err != nil {
		return result{}, err
	}
	pid := g.cmd.Process.Pid
	m0, known := mallocs(g)
	before := cpu(pid)
	out, err := exec.Command(ld.tool, args...).CombinedOutput()
	after := cpu(pid)
	m1, _ := mallocs(g)
	if err != nil {
		return result{}, fmt.Errorf("%w: %s", err, out)
	}
	text := string(out)
	r := result{allocs: -1}
	var total float64
	if ld.tool == "wrk" {
		if strings.Contains(text, "Non-2xx") || strings.Contains(text, "Socket errors") {
			return r, fmt.Errorf("calls failed:\n%s", text)
		}
		total = number(text, `(\d+) requests in`)
		r.calls = number(text, `Requests/sec:\s+([\d.]+)`)
		r.p50, r.p99 = millis(text, `50%\s+(\S+)`), millis(text, `99%\s+(\S+)`)
	} else {
		total = number(text, `requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded`)
		r.calls = number(text, `finished in [^,]+, ([\d.]+) req/s`)
		// It prints no percentiles, but writes down how long each call took.
		took, err := readCalls(l.calls())
		if err != nil {
			return r, err
		}
		r.p50, r.p99 = took[len(took)/2], took[len(took)*99/100]
	}
	if total < leastCalls {
		return r, fmt.Errorf("only %.0f calls were made:\n%s", total, text)
	}
	r.cpu = (after - before) / total * 1e6
	if known {
		r.allocs = (m1 - m0) / total
	}
	return r, nil
}

// mallocs asks a Go gateway that shows its runtime's metrics.
func mallocs(g *gateway) (float64, bool) {
	if g.name != "rota" {
		return 0, false
	}
	client := &http.Client{Timeout: time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", g.http))
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		if v, ok := strings.CutPrefix(sc.Text(), "go_memstats_mallocs_total "); ok {
			f, err := strconv.ParseFloat(v, 64)
			return f, err == nil
		}
	}
	return 0, false
}

// calls is where h2load writes its calls down, one a line: when it began, its
// status, and how many microseconds it took.
func (l *lab) calls() string { return filepath.Join(l.dir, "calls") }

// readCalls reads how long calls took, in milliseconds, sorted.
func readCalls(path string) ([]float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var took []float64
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("h2load's log: %q", line)
		}
		us, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return nil, fmt.Errorf("h2load's log: %w", err)
		}
		took = append(took, us/1000)
	}
	if len(took) == 0 {
		return nil, errors.New("h2load's log is empty")
	}
	slices.Sort(took)
	return took, os.Remove(path)
}

func number(text, pattern string) float64 {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	f, _ := strconv.ParseFloat(m[1], 64)
	return f
}

// millis reads a time such as 2.19ms, 812.00us or 1.02s.
func millis(text, pattern string) float64 {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	d, _ := time.ParseDuration(m[1])
	return float64(d) / float64(time.Millisecond)
}
