// Command console measures the page of a scheduler in a real browser while the cluster is
// as large as it is meant to be: 2,000 workers and 1,000,000 tasks. The scheduler, its API
// and the page are those of the product, over a store in memory; the workers are sessions
// that acknowledge what they are granted, and run nothing. The browser is a headless
// Chromium with an empty profile, so nothing comes from a cache. It prints one table,
// counts first, each figure beside its bar, and fails if a bar is missed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc/grpclog"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "console:", err)
		os.Exit(1)
	}
}

// The bars.
const (
	barWire   = 1e6 // bytes before anybody scrolls
	barMemory = 150e6
	barPaint  = 1000 // ms
	barKill   = 1000 // ms
)

type options struct {
	workers, tasks, runs int
	look                 time.Duration
	browser, shot        string
	times                bool
}

func run() error {
	var o options
	flag.IntVar(&o.workers, "workers", 2000, "how many workers there are")
	flag.IntVar(&o.tasks, "tasks", 1_000_000, "how many tasks they have")
	flag.IntVar(&o.runs, "runs", 5, "how often the page is opened; times are the median")
	flag.DurationVar(&o.look, "look", 10*time.Second, "how long it is looked at before bytes and memory are counted")
	flag.StringVar(&o.browser, "browser", "chromium", "the browser")
	flag.StringVar(&o.shot, "shot", "", "write a picture of the page to this file")
	flag.BoolVar(&o.times, "times", true, "fail for times that miss their bar, too: for a machine with nothing else to do")
	flag.Parse()
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) // a page that is closed is no error here
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	rows, err := measure(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("%-64s %14s %14s %7s\n", "what", "measured", "bar", "of it")
	missed := 0
	for _, r := range rows {
		fmt.Println(r)
		if r.over() && (o.times || r.unit != "ms") {
			missed++
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d bars are missed", missed)
	}
	return nil
}

// row is one figure, beside the most that it may be; zero: it is only told.
type row struct {
	what       string
	value, bar float64
	unit       string // "", "B", "ms"
}

func (r row) over() bool { return r.bar > 0 && r.value > r.bar }

func (r row) String() string {
	amount := func(v float64) string {
		switch r.unit {
		case "B":
			if v >= 1e6 {
				return fmt.Sprintf("%.1f MB", v/1e6)
			}
			return fmt.Sprintf("%.0f kB", v/1e3)
		case "ms":
			return fmt.Sprintf("%.0f ms", v)
		}
		return fmt.Sprintf("%.0f", v)
	}
	bar, of, met := "-", "-", ""
	if r.bar > 0 {
		bar, of, met = amount(r.bar), fmt.Sprintf("%.0f %%", 100*r.value/r.bar), "ok"
	}
	if r.over() {
		met = "MISSED"
	}
	return fmt.Sprintf("%-64s %14s %14s %7s %s", r.what, amount(r.value), bar, of, met)
}
