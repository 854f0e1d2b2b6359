//go:build linux

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/ports"
)

// axe finds what keeps people from using a page; the console's build brings it.
const axe = "../../console/web/node_modules/axe-core/axe.min.js"

// evil is a name that would run a script if it ever became markup.
const evil = `<img/src=x/onerror=pwned=1>`

// A screen is what an address shows, once there is what it waits for.
type screen struct{ name, address, there string }

// whole holds a tab to a size and a theme.
func (b *browser) whole(t *testing.T, tab, theme string, width, height int) {
	t.Helper()
	for method, params := range map[string]map[string]any{
		"Emulation.setDeviceMetricsOverride": {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
		"Emulation.setEmulatedMedia":         {"features": []map[string]string{{"name": "prefers-color-scheme", "value": theme}}},
	} {
		if err := b.do(t, tab, method, params, &struct{}{}); err != nil {
			t.Fatal(err)
		}
	}
}

// ask waits for the text that a promise of the page comes to.
func (b *browser) ask(t *testing.T, tab, expression string) string {
	t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	err := b.do(t, tab, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &r)
	if err != nil || r.ExceptionDetails != nil {
		t.Fatalf("%.80s: %v %s", expression, err, r.ExceptionDetails)
	}
	text, _ := r.Result.Value.(string)
	return text
}

// fits says what of a page is wider than the page, or too small to be touched.
const fits = `new Promise(after => requestAnimationFrame(() => requestAnimationFrame(after))).then(() => {
  const bad = [];
  const touch = innerWidth < 600;
  for (const e of document.querySelectorAll(".picture, .list-side, .sheet")) if (e.scrollWidth > e.clientWidth + 1) bad.push("clipped: " + e.className);
  if (document.documentElement.scrollWidth > innerWidth) bad.push("the page is " + document.documentElement.scrollWidth + " wide");
  if (touch) for (const e of document.querySelectorAll("button, .button, .rail a, select, .column > a, input:not([type=checkbox], [type=file])")) {
    const r = e.getBoundingClientRect();
    if (r.width && !e.classList.contains("sort") && r.height < 43.5) bad.push((e.textContent || e.getAttribute("aria-label")) + " is " + r.height + " high");
  }
  for (const e of document.querySelectorAll("button, .button, .rail a, .chip")) if (e.scrollWidth > e.clientWidth + 1) bad.push((e.textContent || e.getAttribute("aria-label")) + " overhangs its box");
  const text = e => { const r = document.createRange(); r.selectNodeContents(e); return r.getBoundingClientRect(); };
  for (const e of document.querySelectorAll(".facts dt")) if (text(e).height > 1.5 * parseFloat(getComputedStyle(e).lineHeight)) bad.push(e.textContent + " wraps");
  if (touch) for (const e of document.querySelectorAll(".wide-table")) if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth) bad.push(e.className + " scrolls sideways");
  for (const e of document.querySelectorAll(".lines figcaption")) if (e.clientHeight > 1.5 * parseFloat(getComputedStyle(e).lineHeight)) bad.push(e.textContent + " wraps");
  for (const e of document.querySelectorAll("input[placeholder]")) {
    const c = document.createElement("canvas").getContext("2d"), s = getComputedStyle(e);
    c.font = s.font;
    if (e.offsetWidth && c.measureText(e.placeholder).width > e.clientWidth - parseFloat(s.paddingLeft) - parseFloat(s.paddingRight)) bad.push("the placeholder is clipped: " + e.placeholder);
  }
  const words = [...document.querySelectorAll(".rail .word")].map(text);
  if (touch) words.slice(1).forEach((r, i) => { if (r.left - words[i].right < 4) bad.push("the words of the rail touch"); });
  const here = document.querySelector(".rail [aria-current]").getBoundingClientRect();
  if (here.left < 0 || here.right > innerWidth) bad.push("the rail does not show where one is");
  if (window.pwned || document.querySelector("main img[src=x]")) bad.push("a name became markup");
  return bad.join("; ");
})`

// sound says what axe finds. While a busy machine keeps the page from hearing of the
// scheduler it is dimmed, and its colours are not those that count.
const sound = `(async () => {
  const bright = () => document.querySelector(".frame").dataset.link === "live" && getComputedStyle(document.querySelector(".picture")).opacity === "1";
  const before = bright();
  const r = await axe.run(document, {%sresultTypes: ["violations"]});
  if (!before || !bright()) return "dimmed";
  return r.violations.map(v => v.id + ": " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " " + n.failureSummary).join("\n")).join("\n");
})()`

// TestScreens opens each screen of the console in a real browser, at three sizes, two of
// them in both themes: with what it shows, names full of markup too, without a word of complaint,
// within its width, and without violations that axe finds. ROTA_SHOTS is a folder for
// pictures of them.
func TestScreens(t *testing.T) {
	t.Parallel()
	program(t, "chromium")
	source, err := os.ReadFile(axe)
	if err != nil {
		lacking(t, "axe-core (make console-check gets it)")
	}
	dir := passable(t)
	list := `{"tasks":[{"id":"` + evil + `","group":"<b>bold</b>","weight":7},{"id":"waits","require":["gpu=yes"]},{"id":"three","replicas":3}`
	for i := range 150 {
		list += fmt.Sprintf(`,{"id":"task-%03d","group":"group-%d","weight":%d}`, i, i%7, 1+i*i%40)
	}
	file := filepath.Join(dir, "tasks.json")
	if err := os.WriteFile(file, []byte(list+"]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, rotaBin, "dev", "--insecure", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--workers", "2", "--tasks", file)
	at := d.find(t, `console   (http://\S+)`, 2*time.Minute)[1]
	d.find(t, `Ctrl-C`, 2*time.Minute)
	// A third worker, whose function is answered by nobody: its calls fail.
	start(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, rotaBin, "worker", "--name", "w3", "--demo", "--schedulers", d.find(t, `gRPC API +(\S+)`, time.Minute)[1], "--function", "broken=http://"+ports.Addr(t), "--job-data", filepath.Join(dir, "w3"))
	calls := d.find(t, `functions (http://\S+/run/)hello`, time.Minute)[1]
	await(t, 2*time.Minute, "a call of hello, and one that fails", func() bool {
		status, _ := fetchText(t, http.MethodPost, calls+"hello")
		_, _ = fetchText(t, http.MethodPost, calls+"broken")
		_, told := fetchText(t, http.MethodGet, at+"v1/functions/broken")
		return status == http.StatusOK && strings.Contains(told, `"verdict"`)
	})
	building := filepath.Join(dir, "elevator")
	if err := build(building, "../../examples/elevator"); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, building, "-cluster", d.find(t, `gRPC API +(\S+)`, time.Minute)[1], "-plain", "-tick", "50ms", "-time", "1h")
	p.find(t, `waiting \[`, 2*time.Minute)
	var pools struct{}
	call(t, http.MethodPost, at+"v1/pools:apply", `{"pools":[{"name":"idle","engine":"local","size":{"from":0,"to":4},"template":{"kinds":["gpu"],"command":["rota","worker"],"labels":{"gpu":"yes"},"capacity":{"cpu":2}}},
		{"name":"web","engine":"local","size":{"from":2,"to":2},"template":{"command":["/nowhere/<b>"]}}]}`, &pools)
	var job struct{ ID string }
	call(t, http.MethodPost, at+"v1/jobs", `{"job":{"argv":["echo","\u001b[31m`+evil+`"]}}`, &job)

	var waits struct{ ID string }
	call(t, http.MethodPost, at+"v1/jobs", `{"job":{"argv":["echo"],"require":["disk=ssd"]}}`, &waits)

	b := browse(t, filepath.Join(dir, "profile"))
	tab := b.open(t, "about:blank")
	for _, domain := range []string{"Runtime", "Log", "Page"} {
		if err := b.do(t, tab, domain+".enable", map[string]any{}, &struct{}{}); err != nil {
			t.Fatal(err)
		}
	}
	const sheet = `document.querySelector(".sheet-body").textContent`
	for _, s := range []screen{
		{"overview", "#/overview", `document.querySelectorAll(".column").length === 3 && document.querySelector(".fact").textContent.includes("166") && "yes"`},
		{"tasks", "#/tasks", `document.querySelector(".list").textContent.includes("` + evil + `") && document.querySelectorAll(".list tbody tr").length >= 100 && "yes"`},
		{"tasks-waiting", "#/tasks?state=waiting", `document.querySelectorAll(".list tbody tr").length === 1 && document.querySelector(".list").textContent.includes("waits") && "yes"`},
		{"tasks-found", "#/tasks?sort=-weight&q=group-3", `document.querySelector("[aria-sort=descending] .sort").textContent.includes("Weight") && (() => {
			const weights = [...document.querySelectorAll(".list tbody tr td:nth-child(5)")].map(e => Number(e.textContent.replaceAll(",", "")));
			return weights.length === 21 && weights.every((w, i) => !i || w <= weights[i - 1]) && document.querySelector(".heading").textContent.includes("21 of") && "yes"; })()`},
		{"task", "#/tasks/" + "%3Cimg%2Fsrc%3Dx%2Fonerror%3Dpwned%3D1%3E", sheet + `.includes("<b>bold</b>") && ` + sheet + `.includes("Why not elsewhere") && "yes"`},
		{"task-waits", "#/tasks/waits?wide=1", sheet + `.includes("gpu=yes") && document.querySelectorAll(".why tbody tr").length === 3 &&
			[...document.querySelectorAll(".why thead th.rule")].map(e => e.textContent).join() === "State,Kind,Labels,Load" &&
			[...document.querySelectorAll(".why button")].filter(e => e.title === "stops it: no gpu, wants gpu=yes" && e.ariaLabel.startsWith("Labels of w")).length === 3 &&
			(document.querySelector(".why button[title^=stops]").focus(), document.querySelector(".reading").textContent.includes("no gpu, wants gpu=yes")) && "yes"`},
		{"workers", "#/workers?sort=-load", `document.querySelectorAll(".list tbody tr").length === 3 && document.querySelector("[aria-sort=descending]") && "yes"`},
		{"worker", "#/workers/w1", sheet + `.includes("lease") && ` + sheet + `.includes("task-") && ` + sheet + `.includes("worker.joined") && "yes"`},
		{"drain", "#/workers/w2?do=drain", `document.querySelector("dialog[open]").textContent.includes("would move") && document.activeElement.textContent === "Leave it" && "yes"`},
		{"plan", "#/plan?without=w1", `document.querySelectorAll(".ribbon").length >= 1 && document.querySelector(".verdict-line").textContent.match(/ [1-9][0-9]* more would wait/) &&
			[...document.querySelectorAll(".plan .section")].map(e => e.textContent).filter(t => /^What would wait.*three#/.test(t) || /^What waits already.*gpu=yes/.test(t)).length === 2 && "yes"`},
		{"jobs", "#/jobs", `document.querySelector(".list").textContent.includes("` + evil + `") && "yes"`},
		{"jobs-found", "#/jobs?q=" + waits.ID, `document.querySelectorAll(".list tbody tr").length === 1 && "yes"`},
		{"job", "#/jobs/" + job.ID, `document.querySelector(".output .c1").textContent.includes("` + evil + `") && document.querySelector(".output").offsetHeight < 60 && "yes"`},
		{"job-waits", "#/jobs/" + waits.ID, `[...document.querySelectorAll(".why thead th.rule")].map(e => e.textContent).join() === "State,Command,Labels,Jobs,Load" &&
			document.querySelectorAll(".why button[title='stops it: no disk, wants disk=ssd']").length >= 2 && "yes"`},
		{"run", "#/jobs?run=1", `(() => { const form = document.querySelector("dialog[open] form"), commands = form?.querySelector("[name=template]");
			if (!commands || ![...commands.options].some(o => o.text === "seq {last:int(1..1000000)} · 2 workers")) return "";
			const seq = "seq {last:int(1..1000000)}"; if (commands.value !== seq) { commands.value = seq; commands.dispatchEvent(new Event("change", {bubbles: true})); return ""; }
			return form.textContent.includes("last") && form.querySelector("input[max='1000000']") && "yes"; })()`},
		{"no-schedules", "#/schedules", `document.querySelector(".empty").textContent.includes("rota job schedule apply") && "yes"`},
		{"schedules", "#/schedules", `document.querySelectorAll(".list tbody tr").length === 2 && document.querySelector(".list").textContent.includes("paused") &&
			document.querySelector(".rail [aria-current]").textContent.includes("Jobs") && "yes"`},
		{"schedule", "#/schedules/tick", sheet + `.includes("` + evil + `") && [...document.querySelectorAll(".sheet .actions button")].map(e => e.textContent).join().includes("Run now,Pause,Delete") &&
			document.querySelector(".sheet .facts .state.ok") && "yes"`},
		{"schedule-delete", "#/schedules/quiet?do=delete", `document.querySelector("dialog[open]").textContent.includes("Its jobs stay") && "yes"`},
		{"events", "#/events", `document.querySelectorAll(".log > li").length > 5 && "yes"`},
		{"events-job", "#/events?kind=job&job=" + job.ID, `document.querySelector(".log").textContent.includes("job.succeeded") && "yes"`},
		{"functions", "#/functions", `document.querySelector(".list").textContent.includes("broken") && document.querySelector(".list").textContent.includes("hello") && "yes"`},
		{"function", "#/functions/broken", sheet + `.includes("does not offer this function") && document.querySelectorAll(".failure .attempts li").length >= 1 && (document.querySelector(".failure").open = true, "yes")`},
		{"function-hello", "#/functions/hello?wide=1", sheet + `.includes("gets the next call") && document.querySelectorAll(".lines path").length >= 5 && "yes"`},
		{"pools", "#/pools", `document.querySelectorAll(".list tbody tr").length === 2 && document.querySelector(".list").textContent.includes("failing") && "yes"`},
		{"pool", "#/pools/web", sheet + `.includes("in a row") && ` + sheet + `.includes("/nowhere/<b>") && / times since [0-9:]+/.test(` + sheet + `) && "yes"`},
		{"scale", "#/pools/idle?do=scale", `document.querySelectorAll("dialog[open] input[type=number]")[0] === document.activeElement && "yes"`},
		{"programs", "#/programs", `document.querySelector(".list").textContent.includes("12 of 12") && "yes"`},
		{"program", "#/programs/building-7", `document.querySelectorAll(".sheet .state.ok").length === 13 && / [1-9][0-9,]* messages a second/.test(` + sheet + `) && ` + sheet + `.includes("task running 12 tasks") && "yes"`},
		{"no-events", "#/events?task=nobody", `document.querySelector(".empty") && "yes"`},
	} {
		if s.name == "schedules" {
			call(t, http.MethodPost, at+"v1/jobschedules:apply", `{"schedules":[{"name":"tick","cron":"@every 1s","job":{"argv":["echo","`+evil+`"]}},
				{"name":"quiet","cron":"0 2 * * 1-5","time_zone":"Europe/Berlin","paused":true,"job":{"argv":["echo"]}}]}`, &struct{}{})
		}
		if err := b.do(t, tab, "Page.navigate", map[string]any{"url": at + "?" + s.name + s.address}, &struct{}{}); err != nil {
			t.Fatal(err)
		}
		await(t, 2*time.Minute, "the screen "+s.name, func() bool { return b.look(t, tab, s.there) == "yes" })
		b.ask(t, tab, string(source)+`; ""`)
		for _, size := range [][2]int{{1440, 900}, {390, 844}} {
			for _, theme := range []string{"light", "dark"} {
				b.whole(t, tab, theme, size[0], size[1])
				await(t, time.Minute, "its theme", func() bool { return b.look(t, tab, "document.documentElement.dataset.theme") == theme })
				if bad := b.ask(t, tab, fits); bad != "" {
					t.Errorf("%s at %v, %s: %s", s.name, size, theme, bad)
				}
				rules := `runOnly: ["color-contrast"], `
				if (theme == "light") == (size[0] > 600) { // of what does not depend on both, two of the four tell
					rules = ""
				}
				var found string
				await(t, 2*time.Minute, "axe on a page that is not dimmed", func() bool {
					found = b.ask(t, tab, fmt.Sprintf(sound, rules))
					return found != "dimmed"
				})
				if found != "" {
					t.Errorf("%s at %v, %s: axe finds\n%s", s.name, size, theme, found)
				}
				b.shoot(t, tab, fmt.Sprintf("%s-%d-%s.png", s.name, size[0], theme))
			}
		}
		b.whole(t, tab, "light", 1024, 768)
		if bad := b.ask(t, tab, fits); bad != "" {
			t.Errorf("%s at 1024: %s", s.name, bad)
		}
		b.shoot(t, tab, s.name+"-1024-light.png")
		if list := b.complaints(); len(list) > 0 {
			t.Errorf("%s complains: %s", s.name, strings.Join(list, "\n"))
		}
	}
}

// shoot keeps a picture of a tab where ROTA_SHOTS says.
func (b *browser) shoot(t *testing.T, tab, name string) {
	t.Helper()
	to := os.Getenv("ROTA_SHOTS")
	if to == "" {
		return
	}
	var shot struct{ Data string }
	if err := b.do(t, tab, "Page.captureScreenshot", map[string]any{"format": "png"}, &shot); err != nil {
		t.Fatal(err)
	}
	picture, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, name), picture, 0o600); err != nil {
		t.Fatal(err)
	}
}

// call asks the API and reads its answer.
func call(t *testing.T, method, url, body string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v", method, url, resp.Status, err)
	}
}

// TestPageSeesWhatHappens: a worker that is killed is seen on the map; while the
// scheduler is away the page says since when and dims what it knew; it goes on by itself
// when the scheduler is back.
func TestPageSeesWhatHappens(t *testing.T) {
	t.Parallel()
	program(t, "chromium")
	dir := passable(t)
	web, grpc := ports.Addr(t), ports.Addr(t)
	begin := func() *proc {
		p := start(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, rotaBin, "dev", "--insecure", "--http", web, "--grpc", grpc, "--gateway", "",
			"--workers", "3", "--restart", "never", "--data-dir", filepath.Join(dir, "data"))
		p.find(t, `Ctrl-C`, 2*time.Minute)
		return p
	}
	d := begin()
	b := browse(t, filepath.Join(dir, "profile"))
	tab := b.open(t, "http://"+web+"/")
	says := func(what, expression string) {
		t.Helper()
		await(t, 2*time.Minute, what, func() bool { return b.look(t, tab, expression) == "yes" })
	}
	says("a live page", `document.querySelector(".frame").dataset.link === "live" && document.querySelectorAll(".column.ready").length === 3 && document.querySelector(".legend").textContent.includes("cell") && "yes"`)
	b.look(t, tab, `window.mark = "the same page"`)
	var w struct{ Pid int }
	call(t, http.MethodGet, "http://"+web+"/v1/workers/w2", "", &w)
	if err := syscall.Kill(w.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	says("the death of w2 on the map", `document.querySelectorAll(".column.lost").length === 1 && document.querySelector(".column.lost").textContent.includes("w2") && "yes"`)
	says("the death and the moves in words", `[...document.querySelectorAll(".feed > li")].some(e => e.textContent.includes("worker.lost") && e.textContent.includes("w2")) &&
		[...document.querySelectorAll(".feed > li")].some(e => e.textContent.includes("w2 to ")) && "yes"`)

	d.signal(syscall.SIGTERM)
	d.wait(t, 2*time.Minute)
	says("that there is no connection", `document.querySelector(".frame").dataset.link === "lost" && document.querySelector(".silence").textContent.includes("since") &&
		Number(getComputedStyle(document.querySelector(".picture")).opacity) < 0.9 && document.querySelector(".fact") && "yes"`)
	begin()
	says("that it is live again", `document.querySelector(".frame").dataset.link === "live" && !document.querySelector(".silence") && window.mark === "the same page" && "yes"`)
	says("the workers again", `document.querySelectorAll(".column.ready").length === 3 && "yes"`)
}
