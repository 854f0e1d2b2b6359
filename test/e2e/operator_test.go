//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/issuer"
	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/store/etcd"
)

// TestOperatorInBrowser: somebody signs in at an issuer and comes back to where they were,
// follows the output of a job, declares the tasks of a file, drains a worker by keyboard, from the palette over the plan to its end, and loses the
// leader under the page, which names the next one and stays signed in. Somebody who may
// only look signs in beside them, and is shown nothing that would be refused.
func TestOperatorInBrowser(t *testing.T) {
	t.Parallel()
	program(t, "chromium")
	dir := passable(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e, err := etcd.Embed(ctx, etcd.EmbedConfig{DataDir: filepath.Join(dir, "etcd"), Listen: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &closed{t: t, dir: dir}
	c.must("cert", "init")
	for _, of := range [][]string{{"scheduler", "first", "--host", "127.0.0.1"}, {"scheduler", "second", "--host", "127.0.0.1"}, {"worker", "w1"}, {"worker", "w2"}} {
		c.must(append([]string{"cert", "issue"}, of...)...)
	}
	env := []string{"HOME=" + dir, "TMPDIR=" + dir}
	token := regexp.MustCompile(`rota_\S+`).FindString(c.must("token", "create", "--name", "root", "--role", "admin", "--file", filepath.Join(dir, "tokens")))
	viewer := regexp.MustCompile(`rota_\S+`).FindString(c.must("token", "create", "--name", "vi", "--role", "viewer", "--file", filepath.Join(dir, "tokens")))
	admin := []string{env[0], env[1], "ROTA_TOKEN=" + token}
	i := issuer.New(t)
	web := ports.Addr(t)
	client := issuer.Client{ID: "console", Secret: "s3cret", RedirectURL: "http://" + web + "/v1/signin/oidc/callback"}
	i.Trust(client, map[string]any{"groups": "operator", "email": "ada@example.org"})
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(client.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var grpc []string
	sched := func(name, web string) *proc {
		t.Helper()
		grpc = append(grpc, ports.Addr(t))
		return start(t, env, rotaBin, append([]string{
			"scheduler", "--tls", "--name", name, "--etcd", e.Endpoints()[0], "--http", web, "--grpc", grpc[len(grpc)-1], "--gateway", "", "--lease", "3s", "--engines", "local",
			"--tokens", filepath.Join(dir, "tokens"), "--oidc-issuer", i.URL, "--oidc-audience", client.ID, "--oidc-role-claim", "groups",
			"--oidc-client-id", client.ID, "--oidc-client-secret-file", secret, "--oidc-redirect-url", client.RedirectURL,
		}, c.files("scheduler-"+name)...)...)
	}
	first := sched("first", ports.Addr(t))
	first.find(t, "msg=leading", time.Minute)
	sched("second", web).find(t, "msg=ready", time.Minute)
	for _, name := range []string{"w1", "w2"} {
		start(t, env, rotaBin, append([]string{"worker", "--name", name, "--demo", "--job", "any", "--schedulers", strings.Join(grpc, ","), "--job-data", filepath.Join(dir, name)}, c.files("worker-"+name)...)...)
	}
	ask := func(args ...string) string {
		t.Helper()
		_, text := c.rota(admin, append([]string{"--server", grpc[1], "--tls-ca", c.files("worker-w1")[1]}, args...)...)
		return text
	}
	tasks := filepath.Join(dir, "tasks.json")
	if err := os.WriteFile(tasks, []byte(`{"tasks":[{"id":"one"},{"id":"two"},{"id":"three"},{"id":"four"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, 2*time.Minute, "the workers", func() bool { return strings.Count(ask("worker", "list"), "ready") == 2 })
	ask("task", "apply", "-f", tasks)
	await(t, 2*time.Minute, "tasks on both workers", func() bool {
		list := ask("task", "list")
		return strings.Count(list, "running") == 4 && strings.Contains(list, "w1") && strings.Contains(list, "w2")
	})

	b := browse(t, filepath.Join(dir, "profile"))
	tab := b.open(t, "http://"+web+"/#/workers?sort=name")
	says := func(what, expression string) {
		t.Helper()
		await(t, 2*time.Minute, what, func() bool { return b.look(t, tab, expression) == "yes" })
	}
	press := func(keys ...string) {
		t.Helper()
		for _, key := range keys {
			down := map[string]any{"type": "keyDown", "key": key}
			switch {
			case len(key) == 1:
				down["text"] = key
			case key == "Enter":
				down["text"], down["windowsVirtualKeyCode"] = "\r", 13
			case key == "Tab":
				down["windowsVirtualKeyCode"] = 9
			}
			for _, kind := range []string{"keyDown", "keyUp"} {
				down["type"] = kind
				if err := b.do(t, tab, "Input.dispatchKeyEvent", down, &struct{}{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	says("a way to the issuer", `(() => { const a = [...document.querySelectorAll("#sign-in a.button")].find(e => e.textContent.startsWith("Sign in at")); if (!a) return ""; a.click(); return "yes"; })()`)
	says("the list of before, to an operator", `document.querySelector(".caller").textContent.includes("ada@example.org") && document.querySelector(".caller").textContent.includes("operator") && location.hash === "#/workers?sort=name" && "yes"`)
	says("both workers", `document.querySelectorAll(".list tbody tr").length === 2 && "yes"`)

	// What a job writes is seen as it writes it: it goes on when the gate is there.
	gate := filepath.Join(dir, "gate")
	job := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`).FindString(ask("job", "run", "--", "sh", "-c", "echo the first; until [ -e "+gate+" ]; do sleep 0.1; done; echo the second"))
	b.look(t, tab, fmt.Sprintf(`(window.mark = "the same page", location.hash = "#/jobs/%s")`, job))
	says("the output so far", `document.querySelector(".output").textContent.includes("the first") && !document.querySelector(".output").textContent.includes("the second") && "yes"`)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says("the rest of the output, on the same page", `document.querySelector(".output").textContent.includes("the second") && document.querySelector(".sheet-body").textContent.includes("succeeded") && window.mark === "the same page" && "yes"`)
	b.look(t, tab, `location.hash = "#/workers?sort=name"`)
	says("both workers again", `document.querySelectorAll(".list tbody tr").length === 2 && "yes"`)

	// A file in YAML is dropped on the plan: what is wrong with it is said by its line, and then it is declared.
	drop := func(text string) {
		t.Helper()
		b.look(t, tab, fmt.Sprintf(`(() => { const files = new DataTransfer(); files.items.add(new File([%q], "more.yaml")); document.querySelector(".plan").dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true})); return ""; })()`, text))
	}
	b.look(t, tab, `location.hash = "#/plan"`)
	says("the plan", `document.querySelector(".plan .verdict-line") && "yes"`)
	drop("- id: five\n- id: six\n  weigth: 2\n")
	says("what is wrong with the file", `document.querySelector(".plan").textContent.includes("more.yaml:3: task 2: weigth") && "yes"`)
	drop("- id: five\n- id: six\n  weight: 2\n")
	says("a plan of two tasks more", `document.querySelector(".plan .verdict-line").textContent.includes("2 placed") && "yes"`)
	says("two tasks declared", `(() => { const declare = [...document.querySelectorAll(".plan .primary")].find(e => e.textContent === "Declare these 2 tasks"); declare?.click(); return document.querySelector(".plan .notice")?.textContent.includes("2 declared") && "yes"; })()`)
	b.look(t, tab, `location.hash = "#/workers?sort=name"`)
	says("both workers once more", `document.querySelectorAll(".list tbody tr").length === 2 && "yes"`)

	press("/")
	says("the palette", `document.activeElement?.getAttribute("role") === "combobox" && "yes"`)
	press(strings.Split("drain w1", "")...)
	says("what was typed", `document.querySelector("#found [aria-selected=true]").textContent.includes("Drain w1") && "yes"`)
	press("Enter")
	says("the plan of the drain", `document.querySelector("dialog[open]").textContent.includes("would move") && !document.querySelector("dialog[open] .primary").disabled && "yes"`)
	for range 20 { // to the button, as somebody without a mouse
		if b.look(t, tab, `document.activeElement?.textContent === "Drain w1" && "yes"`) == "yes" {
			break
		}
		press("Tab")
	}
	says("the button at the keyboard", `document.activeElement?.textContent === "Drain w1" && "yes"`)
	press("Enter")
	says("a drained worker that runs nothing", `!document.querySelector("dialog[open]") && document.querySelector(".sheet").textContent.includes("draining") && document.querySelector(".sheet-body").textContent.includes("Nothing.") && "yes"`)
	if told := ask("events", "--worker", "w1"); !strings.Contains(told, "ada@example.org") {
		t.Errorf("the events do not say who drained w1: %s", told)
	}

	pool := filepath.Join(dir, "pool.json")
	if err := os.WriteFile(pool, []byte(`{"pools":[{"name":"idle","engine":"local","size":{"from":0,"to":4},"template":{"kinds":["gpu"],"command":["rota","worker"]}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := ask("pool", "apply", "-f", pool); strings.Contains(text, "rota: ") {
		t.Fatal(text)
	}
	onlyLooks(t, b, "http://"+web+"/", viewer, []string{"#/workers/w2", "#/workers/w2?do=drain", "#/tasks/one", "#/jobs/" + job, "#/jobs?run=1", "#/plan?without=w2", "#/pools/idle?do=scale"})

	press("Escape", "g", "o")
	says("the overview", `location.hash.startsWith("#/overview") && document.querySelector(".bar, header")?.textContent && "yes"`)
	says("the leader", fmt.Sprintf(`document.body.textContent.includes(%q) && "yes"`, "first"))
	b.look(t, tab, `window.mark = "the same page"`)
	first.signal(syscall.SIGKILL)
	says("the next leader, on the same page, signed in", `document.querySelector(".frame").dataset.link === "live" && document.querySelector(".leader, [data-leader]")?.textContent.includes("second") && window.mark === "the same page" && document.querySelector(".caller").textContent.includes("ada") && "yes"`)
}

// onlyLooks signs a viewer in, in a tab that shares nothing with others, and opens pages
// on which others have buttons. What the page does not offer, the scheduler refuses, too.
func onlyLooks(t *testing.T, b *browser, console, token string, addresses []string) {
	t.Helper()
	tab := b.open(t, console)
	await(t, 2*time.Minute, "a field for a token", func() bool { return b.look(t, tab, fmt.Sprintf(typed, token)) == "yes" })
	signed := func(address string) {
		t.Helper()
		await(t, 2*time.Minute, address+", to a viewer", func() bool {
			return b.look(t, tab, `document.querySelector(".caller").textContent === "vi viewer" && location.href === `+strconv.Quote(address)+` && document.querySelector(".picture .section, .picture .list, .picture .numbers") && "yes"`) == "yes"
		})
	}
	signed(console)
	for i, of := range addresses {
		address := fmt.Sprintf("%s?%d%s", console, i, of) // each is loaded anew
		if err := b.do(t, tab, "Page.navigate", map[string]any{"url": address}, &struct{}{}); err != nil {
			t.Fatal(err)
		}
		signed(address)
		if b.look(t, tab, `document.querySelector("dialog[open]") && "yes"`) == "yes" {
			t.Errorf("a viewer is asked something at %s", address)
		}
		if found := b.look(t, tab, `[...document.querySelectorAll("button, .button")].map(e => e.textContent).filter(x => /drain|cordon|run|retry|forget|stop|pass now|declare|scale/i.test(x)).join()`); found != "" {
			t.Errorf("a viewer is shown %q at %s", found, address)
		}
	}
	for _, path := range []string{"v1/workers/w2:drain", "v1/jobs", "v1/tasks:apply"} {
		if got := b.ask(t, tab, fmt.Sprintf(`fetch(%q, {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"}).then(r => String(r.status))`, path)); got != "403" {
			t.Errorf("a viewer who posts to %s is answered %s", path, got)
		}
	}
}
