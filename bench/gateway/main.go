// Command gateway measures rota's gateway beside nginx, HAProxy, Caddy and a
// well-tuned httputil.ReverseProxy in one run: calls a second, median and 99th
// percentile, and the CPU time that the gateway itself takes a call, by wrk and
// h2load, over four upstreams of nginx on the same machine.
//
// make bench-gateway runs it. What is not installed is left out and named:
// nginx, haproxy, wrk and nghttp2-client come from the system's packages, Caddy
// is built from its published module if BENCH_CADDY names a binary. Timings of a
// shared machine are noisy: the rounds of all gateways alternate, of calls a second
// and CPU a call the best round of each counts, of times the median round. CPU a
// call is the figure to judge by.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	rounds  = flag.Int("rounds", 3, "rounds of each gateway")
	seconds = flag.Duration("for", 3*time.Second, "length of a round")
	conns   = flag.Int("connections", 64, "client connections")
	idle    = flag.Int("idle", 10_000, "idle client connections for the memory figure, 0 for none")
	only    = flag.String("only", "", "run only these gateways, by comma")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if os.Getenv(reverseProxyEnv) != "" {
		return serveReverseProxy(os.Getenv(reverseProxyEnv))
	}
	for _, tool := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed: %w", tool, err)
		}
	}
	dir, err := os.MkdirTemp("", "rota-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	lab := &lab{dir: dir}
	defer lab.stopAll()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		lab.stopAll()
		os.Exit(1)
	}()
	if err := lab.certificate(); err != nil {
		return err
	}
	if err := lab.upstreams(); err != nil {
		return err
	}
	var running []*gateway
	for _, g := range gateways() {
		if *only != "" && !strings.Contains(","+*only+",", ","+g.name+",") {
			continue
		}
		if err := lab.start(g); err != nil {
			fmt.Printf("left out: %s: %v\n", g.name, err)
			continue
		}
		running = append(running, g)
	}
	fmt.Printf("%s, %d CPUs, %d connections, %d rounds of %v, 4 upstreams of nginx\n",
		runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU(), *conns, *rounds, *seconds)
	for _, l := range loads {
		if _, err := exec.LookPath(l.tool); err != nil {
			fmt.Printf("\nleft out: %s: %v\n", l.name, err)
			continue
		}
		results := map[string][]result{}
		for range *rounds {
			for _, g := range running {
				if l.port(g) == 0 {
					continue
				}
				r, err := lab.measure(g, l)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", g.name, l.name, err)
				}
				results[g.name] = append(results[g.name], r)
			}
		}
		table(l.name, running, results)
	}
	if *idle > 0 {
		memory(running)
	}
	return nil
}

// sum is what the rounds of a gateway come to.
func sum(rounds []result) result {
	var calls, p50, p99, cpu, allocs []float64
	for _, r := range rounds {
		calls, p50, p99 = append(calls, r.calls), append(p50, r.p50), append(p99, r.p99)
		cpu, allocs = append(cpu, r.cpu), append(allocs, r.allocs)
	}
	return result{calls: slices.Max(calls), p50: median(p50), p99: median(p99), cpu: slices.Min(cpu), allocs: slices.Min(allocs)}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

func table(name string, running []*gateway, results map[string][]result) {
	fmt.Printf("\n%-34s %10s %8s %8s %12s %14s %8s\n", name, "calls/s", "p50 ms", "p99 ms", "CPU µs/call", "CPU ÷ nginx's", "allocs")
	var base result
	if rounds := results["nginx"]; len(rounds) > 0 {
		base = sum(rounds)
	}
	for _, g := range running {
		if len(results[g.name]) == 0 {
			continue
		}
		r := sum(results[g.name])
		ratio, allocs := "", ""
		if base.cpu > 0 {
			ratio = fmt.Sprintf("%.2f", r.cpu/base.cpu)
		}
		if r.allocs >= 0 {
			allocs = fmt.Sprintf("%.1f", r.allocs)
		}
		fmt.Printf("%-34s %10.0f %8.2f %8.1f %12.1f %14s %8s\n", g.name, r.calls, r.p50, r.p99, r.cpu, ratio, allocs)
	}
}

// repo is the product's folder: where this command's module lies in.
func repo() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/rota-project/rota").Output()
	if err != nil {
		return "", err
	}
	return filepath.Clean(strings.TrimSpace(string(out))), nil
}
