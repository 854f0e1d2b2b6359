package main

import (
	"bytes"
	"fmt"
	"math"
)

// growth draws times over tasks, both on logarithmic axes: fresh, one worker
// more, and one task, for 2,000 workers.
func growth(runs int) []byte {
	tasks := []int{10_000, 30_000, 100_000, 300_000, 1_000_000}
	lines := []struct {
		name, colour string
		dash         bool
		ms           []float64
	}{
		{name: "fresh", colour: "#1f77b4"},
		{name: "fresh, franz-go", colour: "#1f77b4", dash: true},
		{name: "one worker more", colour: "#2ca02c"},
		{name: "one worker more, franz-go", colour: "#2ca02c", dash: true},
	}
	for _, n := range tasks {
		f, m := fresh(runs, n, 2000), more(runs, n, 2000)
		for k, c := range []cost{f.ours, f.theirs, m.ours, m.theirs} {
			lines[k].ms = append(lines[k].ms, float64(c.time)/1e6)
		}
	}
	const w, h, left, bottom, top, right = 720, 400, 70, 50, 20, 210
	x := func(n int) float64 { return left + (math.Log10(float64(n))-4)/2*(w-left-right) }
	y := func(ms float64) float64 { return h - bottom - (math.Log10(ms)+1)/4*(h-bottom-top) } // 0.1 ms to 1 s
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", w, h)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", w, h)
	for e := -1; e <= 3; e++ {
		v := math.Pow10(e)
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g ms</text>`+"\n", left, y(v), w-right, left-6, y(v)+4, v)
	}
	for _, n := range tasks {
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#eee"/><text x="%.1f" y="%d" text-anchor="middle">%d k</text>`+"\n", x(n), top, h-bottom, x(n), h-bottom+18, n/1000)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">tasks, on 2,000 workers</text>`+"\n", (left+w-right)/2, h-12)
	for _, l := range lines {
		dash := ""
		if l.dash {
			dash = ` stroke-dasharray="6 4"`
		}
		fmt.Fprintf(&b, `<path fill="none" stroke="%s" stroke-width="2"%s d="`, l.colour, dash)
		for k, ms := range l.ms {
			fmt.Fprintf(&b, "%c%.1f %.1f", "ML"[min(k, 1)], x(tasks[k]), y(ms))
		}
		last := l.ms[len(l.ms)-1]
		fmt.Fprintf(&b, `"/><text x="%d" y="%.1f" fill="%s">%s, %.3g ms</text>`+"\n", w-right+6, y(last)+4, l.colour, l.name, last)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
