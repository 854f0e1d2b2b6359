// Command cluster measures a whole running cluster: an embedded etcd, a
// scheduler and workers, from the moment that something is asked for or breaks
// to the moment that the tasks run. It prints one table, each row beside its bar
// and, where one is known, beside escheduler.
//
// escheduler's figures are published ones, measured on a two-core machine: its
// module cannot be had from the module proxy any more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run() error {
	only := flag.String("rows", "", "a regular expression of rows to run; all without")
	runs := flag.Int("runs", 20, "how often things are repeated whose 99th percentile is shown")
	worker := flag.String("worker", "", "be the worker of this name: used by the command itself")
	scheduler := flag.String("scheduler", "", "the scheduler that the worker goes to")
	sim := flag.Bool("simulate", false, "be the simulation: used by the command itself, which runs it alone in a process")
	sessions := flag.Int("sessions", 2000, "simulated sessions")
	tasks := flag.Int("tasks", 1_000_000, "simulated tasks")
	lease := flag.Duration("lease", simLease, "lease of the row many")
	profile := flag.String("cpuprofile", "", "write a CPU profile of this process to this file")
	heap := flag.String("memprofile", "", "write a profile of the heap at the end of the simulation to this file")
	flag.Parse()
	if *profile != "" {
		stop, err := profileCPU(*profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	switch {
	case *worker != "":
		return beWorker(ctx, *worker, *scheduler)
	case *sim:
		return simulate(ctx, os.Stdout, *sessions, *tasks, *heap)
	default:
		return all(ctx, *only, options{runs: *runs, sessions: *sessions, tasks: *tasks, lease: *lease})
	}
}

// options are what the rows go by.
type options struct {
	runs, sessions, tasks int
	lease                 time.Duration
}

// bench is one measurement, which may give several rows.
type bench struct {
	name string
	run  func(context.Context, options) ([]row, error)
}

func all(ctx context.Context, only string, o options) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	chosen := slices.DeleteFunc(slices.Clone(benches), func(b bench) bool { return !pattern.MatchString(b.name) })
	if len(chosen) == 0 {
		return fmt.Errorf("rows: %q: no row has such a name", only)
	}
	printHead()
	var failed error
	for _, b := range chosen {
		rows, err := b.run(ctx, o)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", b.name, err))
		}
		for _, r := range rows {
			r.print()
		}
	}
	return failed
}

var benches = []bench{
	{"spread10k", func(ctx context.Context, _ options) ([]row, error) {
		return spread(ctx, 10_000, 10, 300*time.Millisecond, 10_200*time.Millisecond)
	}},
	{"spread100k", func(ctx context.Context, _ options) ([]row, error) {
		return spread(ctx, 100_000, 100, 3*time.Second, 0)
	}},
	{"leave", leave},
	{"kill", kill},
	{"cut", cut},
	{"move", move},
	{"written", written},
	{"coming", coming},
	{"simulation", simulation},
	{"many", many},
	{"product", product},
	{"quorum", quorum},
}
