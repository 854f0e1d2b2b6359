// Command hostile measures what a scheduler pays for callers without credentials:
// memory and processor time for each request that it refuses, and what is left of
// it while a thousand connections of each hostile kind are held open. The
// scheduler is a process of its own, built from this tree, with an etcd within it.
// It prints one table, each row beside its bar, and fails if a bar is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run() error {
	o := options{}
	flag.IntVar(&o.requests, "requests", 1000, "how many requests of each size")
	flag.IntVar(&o.conns, "conns", 1000, "how many connections of each kind")
	flag.DurationVar(&o.hold, "hold", 5*time.Second, "how long they are held")
	only := flag.String("run", "", "only rows that match this `regexp`")
	flag.BoolVar(&o.times, "times", true, "measure processor time, and give probes 5 s: for a machine with nothing else to do")
	flag.Parse()
	var err error
	if o.run, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	fmt.Printf("%-86s %12s %12s\n", "what", "measured", "bar")
	missed := 0
	err = measure(ctx, o, func(r row) {
		fmt.Println(r)
		if r.over() {
			missed++
		}
	})
	if err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%d bars are missed", missed)
	}
	return nil
}

// options are how much is done.
type options struct {
	requests, conns int
	hold            time.Duration
	times           bool
	run             *regexp.Regexp // of what is measured
}

// The bars.
const (
	barMemory = 100_000     // bytes for a refused request
	barCPU    = 200         // microseconds for one
	barAll    = 200_000_000 // bytes of a scheduler with hostile connections
)

// row is one figure.
type row struct {
	what       string
	value, bar float64 // bar zero: only told
	unit       string
	least      bool // the bar is the least that the value may be, not the most
}

func (r row) over() bool {
	if r.bar == 0 {
		return false
	}
	return r.value > r.bar && !r.least || r.value < r.bar && r.least
}

func (r row) String() string {
	bar, met := "-", ""
	if r.bar != 0 {
		bar, met = fmt.Sprintf("%.4g %s", r.bar, r.unit), "ok"
	}
	if r.over() {
		met = "MISSED"
	}
	return fmt.Sprintf("%-86s %12s %12s %s", r.what, fmt.Sprintf("%.4g %s", r.value, r.unit), bar, met)
}

// measure runs everything, on a scheduler in the clear and on one with TLS, and
// tells each figure.
func measure(ctx context.Context, o options, tell func(row)) (err error) {
	dir, err := os.MkdirTemp("", "rota-hostile-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin, err := build(ctx, dir)
	if err != nil {
		return err
	}
	for _, tls := range []bool{false, true} {
		s, err := start(ctx, bin, dir, tls)
		if err != nil {
			return err
		}
		if err = refused(ctx, s, o, tell); err == nil {
			err = held(ctx, s, o, tell)
		}
		if err = errors.Join(err, s.stop()); err != nil {
			return err
		}
	}
	return nil
}
