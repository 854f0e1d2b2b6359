package main

import (
	"fmt"
	"slices"
	"time"
)

// row is one line of the table. Value and bar are in the same unit.
type row struct {
	what       string
	value, bar float64 // bar zero: only told
	unit       string  // "s", "ms", "MB", "B"
	peer       float64 // escheduler's, zero for none
	note       string
}

func inSeconds(what string, d, bar, peer time.Duration, note string) row {
	return row{what, d.Seconds(), bar.Seconds(), "s", peer.Seconds(), note}
}

func inMillis(what string, d, bar, peer time.Duration, note string) row {
	const ms = float64(time.Millisecond)
	return row{what, float64(d) / ms, float64(bar) / ms, "ms", float64(peer) / ms, note}
}

func inMB(what string, bytes, bar float64, note string) row {
	return row{what, bytes / 1e6, bar / 1e6, "MB", 0, note}
}

func printHead() {
	fmt.Printf("%-58s %12s %12s %5s %12s %7s  %s\n", "what", "measured", "bar", "", "escheduler", "ratio", "")
}

func (r row) print() {
	amount := func(v float64) string {
		switch {
		case v == 0:
			return "-"
		case r.unit == "B" || r.value >= 1000 && r.unit == "MB":
			return fmt.Sprintf("%.0f %s", v, r.unit)
		}
		return fmt.Sprintf("%.3g %s", v, r.unit)
	}
	met, ratio := "", "-"
	if r.bar > 0 {
		if met = "ok"; r.value > r.bar {
			met = "OVER"
		}
	}
	if r.peer > 0 {
		ratio = fmt.Sprintf("%.0fx", r.peer/r.value)
	}
	measured := amount(r.value)
	if r.value == 0 {
		measured = "0" // none was written
	}
	fmt.Printf("%-58s %12s %12s %5s %12s %7s  %s\n", r.what, measured, amount(r.bar), met, amount(r.peer), ratio, r.note)
}

// percentile of times, by the nearest rank.
func percentile(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(times))
	return s[min(int(p*float64(len(s))), len(s)-1)]
}
