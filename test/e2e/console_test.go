//go:build linux

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConsoleInBrowser: the address that rota dev prints opens the console, live,
// in a real browser; without the token the page asks for one.
func TestConsoleInBrowser(t *testing.T) {
	t.Parallel()
	program(t, "chromium")
	dir := passable(t)
	d := start(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, rotaBin, "dev", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--workers", "1")
	address := d.find(t, `console   (http://\S+)`, 60*time.Second)[1]
	d.find(t, `Ctrl-C`, 60*time.Second)
	plain, _, _ := strings.Cut(address, "#")
	b := browse(t, filepath.Join(dir, "profile"))
	// The page draws after what it heard: each state is awaited, not given a time.
	const now = `(document.querySelector(".frame")?.dataset.link ?? "no page") + ", sign-in " + (document.querySelector("#sign-in") ? "shown" : "hidden") + ", " + location.href`
	for url, want := range map[string]string{
		address:                 fmt.Sprintf("live, sign-in hidden, %s", plain),
		plain:                   fmt.Sprintf("no page, sign-in shown, %s", plain),
		plain + "#token=rota_x": fmt.Sprintf("no page, sign-in shown, %s", plain),
	} {
		tab := b.open(t, url)
		await(t, 2*time.Minute, "the page of "+url+" says "+want, func() bool { return b.look(t, tab, now) == want })
	}

	// Somebody types the token, and signs out. No script keeps it.
	_, token, _ := strings.Cut(address, "#token=")
	tab := b.open(t, plain)
	says := func(what, expression string) {
		t.Helper()
		await(t, 2*time.Minute, what, func() bool { return b.look(t, tab, expression) == "yes" })
	}
	says("a field for a token", fmt.Sprintf(typed, "rota_wrong"))
	says("that the token is wrong", `document.querySelector("#sign-in .failed").textContent.includes("not known") && "yes"`)
	says("the field again", fmt.Sprintf(typed, token))
	says("a live page", `document.querySelector(".frame").dataset.link === "live" && "yes"`)
	says("nothing that a script keeps", `sessionStorage.length + localStorage.length === 0 && !document.cookie && "yes"`)
	says("a button to sign out", `(document.querySelector("[aria-label='Sign out']").click(), "yes")`)
	says("that one has signed out", `document.querySelector("#sign-in .notice").textContent.includes("signed out") && "yes"`)
}

// typed has the sign-in form send a token, once it is there.
const typed = `(() => {
  const input = document.querySelector("#sign-in input");
  if (!input) return "";
  input.value = %q;
  input.dispatchEvent(new Event("input", {bubbles: true}));
  setTimeout(() => input.form.requestSubmit(), 100);
  return "yes";
})()`
