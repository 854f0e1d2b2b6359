package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota/internal/test/chromium"
)

// watched notes in the page when it is first drawn, when the map has all workers, and when
// it shows one of them as lost: in milliseconds since the page was asked for, and since
// 1970.
const watched = `
window.seen = {};
new PerformanceObserver(list => { for (const e of list.getEntries()) seen[e.name] = e.startTime; }).observe({type: "paint", buffered: true});
(function look() {
  const drawn = name => [...document.querySelectorAll(".field canvas")].reduce((n, c) => n + Number(c.dataset[name] ?? 0), 0);
  const all = document.getElementsByClassName("tile").length + drawn("workers"), lost = document.querySelector(".tile.lost, .tile.away") || drawn("lost") > 0;
  if (all === %d && !seen.map && !lost) requestAnimationFrame(() => seen.map ??= performance.now());
  if (lost && !seen.lost) requestAnimationFrame(() => seen.lost ??= Date.now());
  requestAnimationFrame(look);
})();`

// page is what opening the page once has come to.
type page struct {
	paint, drawn, kill     float64 // ms
	word                   float64 // ms until a page of one word is painted: what the machine does not do faster
	wire, wireDrawn        float64 // bytes
	heap, private, shared  float64 // bytes: of the page's JavaScript; of the renderer's process
	told                   float64 // bytes because of the kill
	nodes, requests, alive float64
}

func measure(ctx context.Context, o options) (rows []row, err error) {
	path, err := exec.LookPath(o.browser)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	c, err := fill(ctx, o.workers, o.tasks)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	fmt.Fprintf(os.Stderr, "console: %d workers run %d tasks after %v\n", o.workers, o.tasks, time.Since(began).Round(time.Second))
	var all []page
	for n := range o.runs {
		p, err := c.open(ctx, path, o)
		if err != nil {
			return nil, fmt.Errorf("run %d: %w", n+1, err)
		}
		all = append(all, p)
	}
	of := func(f func(page) float64) float64 {
		list := make([]float64, len(all))
		for i, p := range all {
			list[i] = f(p)
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	most := func(f func(page) float64) float64 {
		var m float64
		for _, p := range all {
			m = max(m, f(p))
		}
		return m
	}
	return []row{
		{"workers on the map", of(func(p page) float64 { return p.alive }), 0, ""},
		{"requests", most(func(p page) float64 { return p.requests }), 0, ""},
		{"nodes of the document", most(func(p page) float64 { return p.nodes }), 0, ""},
		{"on the wire until the map is drawn", most(func(p page) float64 { return p.wireDrawn }), barWire, "B"},
		{fmt.Sprintf("on the wire in the %v after that, too", o.look), most(func(p page) float64 { return p.wire }), barWire, "B"},
		{"heap of the page's JavaScript", most(func(p page) float64 { return p.heap }), barMemory, "B"},
		{"private memory of the page's process, code and all", most(func(p page) float64 { return p.private }), barMemory, "B"},
		{"resident memory of it, with what it shares with others", most(func(p page) float64 { return p.shared }), 0, "B"},
		{"a page of one word: first contentful paint", of(func(p page) float64 { return p.word }), 0, "ms"},
		{"first contentful paint", of(func(p page) float64 { return p.paint }), barPaint, "ms"},
		{"all workers drawn", of(func(p page) float64 { return p.drawn }), barPaint, "ms"},
		{"a worker is killed: the map shows it after", of(func(p page) float64 { return p.kill }), barKill, "ms"},
		{"a worker is killed: on the wire for it and all its tasks", most(func(p page) float64 { return p.told }), 0, "B"},
	}, nil
}

// open opens the page once, in a browser of its own, and kills a worker before its eyes.
func (c *cluster) open(ctx context.Context, path string, o options) (p page, err error) {
	profile, err := os.MkdirTemp("", "rota-bench-*")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(profile)) }()
	b, err := chromium.Start(path, profile)
	if err != nil {
		return p, err
	}
	defer b.Close()
	// The browser has begun, as that of whoever opens the page has.
	tab, err := b.Open("about:blank")
	if err != nil {
		return p, err
	}
	for method, params := range map[string]map[string]any{
		"Page.enable": {}, "Performance.enable": {}, "Network.enable": {}, "Runtime.enable": {}, "Log.enable": {},
		"Emulation.setDeviceMetricsOverride":    {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": false},
		"Page.addScriptToEvaluateOnNewDocument": {"source": fmt.Sprintf(watched, o.workers)},
	} {
		if err := b.Do(tab, method, params, &struct{}{}); err != nil {
			return p, err
		}
	}
	var ill []string // what the page complains about
	b.Heard = func(event string, params json.RawMessage) {
		switch event {
		case "Network.requestWillBeSent":
			p.requests++
		case "Runtime.exceptionThrown", "Log.entryAdded":
			ill = append(ill, string(params))
		}
	}
	if p.word, err = word(ctx, b, "http://"+c.http.Addr().String()+"/healthz"); err != nil {
		return p, err
	}
	p.requests = 0
	before := c.http.sent.Load()
	if err := b.Do(tab, "Page.navigate", map[string]any{"url": "http://" + c.http.Addr().String() + "/"}, &struct{}{}); err != nil {
		return p, err
	}
	var s struct {
		FCP  float64 `json:"first-contentful-paint"`
		Map  float64
		Lost float64
	}
	look := func(what string, there func() bool) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for {
			var r struct{ Result struct{ Value string } }
			err := b.Do(tab, "Runtime.evaluate", map[string]any{"expression": "JSON.stringify(window.seen ?? {})", "returnByValue": true}, &r)
			if err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(r.Result.Value), &s); err != nil {
				return err
			}
			if there() {
				return nil
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("the page does not show %s: %s", what, r.Result.Value)
			}
		}
	}
	if err := look("the map", func() bool { return s.Map > 0 && s.FCP > 0 }); err != nil {
		return p, err
	}
	p.wireDrawn = float64(c.http.sent.Load() - before)
	p.paint, p.drawn, p.alive = s.FCP, s.Map, float64(o.workers)
	select {
	case <-time.After(o.look):
	case <-ctx.Done():
		return p, ctx.Err()
	}
	p.wire = float64(c.http.sent.Load() - before)
	if err := p.memory(b, tab); err != nil {
		return p, err
	}
	if o.shot != "" {
		if err := shoot(b, tab, o.shot); err != nil {
			return p, err
		}
	}
	before = c.http.sent.Load()
	killed := time.Now()
	if err := c.kill(ctx, o.workers/2); err != nil {
		return p, err
	}
	if err := look("the loss of a worker", func() bool { return s.Lost > 0 }); err != nil {
		return p, err
	}
	p.kill = s.Lost - float64(killed.UnixMicro())/1000
	if err := c.settled(ctx, o.workers-1, o.tasks); err != nil {
		return p, err
	}
	p.told = float64(c.http.sent.Load() - before)
	if err := c.join(ctx, o.workers/2); err != nil {
		return p, err
	}
	if len(ill) > 0 {
		return p, fmt.Errorf("the page complains: %s", strings.Join(ill, "\n"))
	}
	return p, c.settled(ctx, o.workers, o.tasks)
}

// word opens a page of one word and answers when it is painted.
func word(ctx context.Context, b *chromium.Browser, url string) (ms float64, err error) {
	tab, err := b.Open(url)
	if err != nil {
		return 0, err
	}
	for {
		var r struct{ Result struct{ Value float64 } }
		if err := b.Do(tab, "Runtime.evaluate", map[string]any{
			"expression": `performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0`, "returnByValue": true,
		}, &r); err != nil {
			return 0, err
		}
		if r.Result.Value > 0 {
			return r.Result.Value, nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return 0, fmt.Errorf("a page of one word is not painted: %w", ctx.Err())
		}
	}
}

// memory reads what the page uses after its garbage is collected.
func (p *page) memory(b *chromium.Browser, tab string) error {
	if err := b.Do(tab, "HeapProfiler.collectGarbage", map[string]any{}, &struct{}{}); err != nil {
		return err
	}
	var m struct {
		Metrics []struct {
			Name  string
			Value float64
		}
	}
	if err := b.Do(tab, "Performance.getMetrics", map[string]any{}, &m); err != nil {
		return err
	}
	for _, x := range m.Metrics {
		switch x.Name {
		case "JSHeapUsedSize":
			p.heap = x.Value
		case "Nodes":
			p.nodes = x.Value
		}
	}
	pids, err := b.Processes("renderer")
	if err != nil {
		return err
	}
	for _, pid := range pids { // the largest is that of the page; the others are empty tabs
		private, resident, err := memoryOf(pid)
		if err != nil {
			return err
		}
		if private > p.private {
			p.private, p.shared = private, resident
		}
	}
	return nil
}

// memoryOf is what a process has in memory, in bytes: what nobody shares with it, and all.
func memoryOf(pid int) (private, resident float64, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		kb, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return 0, 0, err
		}
		switch fields[0] {
		case "Private_Clean:", "Private_Dirty:":
			private += kb * 1024
		case "Rss:":
			resident = kb * 1024
		}
	}
	return private, resident, nil
}

func shoot(b *chromium.Browser, tab, to string) error {
	var shot struct{ Data string }
	if err := b.Do(tab, "Page.captureScreenshot", map[string]any{"format": "png"}, &shot); err != nil {
		return err
	}
	picture, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		return err
	}
	return os.WriteFile(to, picture, 0o600)
}
