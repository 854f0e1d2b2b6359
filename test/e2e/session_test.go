//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/ports"
)

// TestSessionOver: when a session is over the page says so. Whoever
// signs in again goes on where they were; whoever may only look has no buttons there.
func TestSessionOver(t *testing.T) {
	t.Parallel()
	program(t, "chromium")
	dir := passable(t)
	file := filepath.Join(dir, "tokens")
	out, err := exec.CommandContext(t.Context(), rotaBin, "token", "create", "--name", "vi", "--role", "viewer", "--file", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	token := regexp.MustCompile(`rota_\S+`).FindString(string(out))
	web := ports.Addr(t)
	start(t, []string{"HOME=" + dir, "TMPDIR=" + dir}, rotaBin, "scheduler", "--name", "s", "--data-dir", filepath.Join(dir, "data"), "--http", web, "--grpc", "127.0.0.1:0", "--gateway", "",
		"--tokens", file, "--session-life", "1m")
	awaitHTTP(t, "http://"+web+"/readyz")
	b := browse(t, filepath.Join(dir, "profile"))
	tab := b.open(t, "http://"+web+"/#/jobs?state=failed")
	says := func(what, expression string) {
		t.Helper()
		await(t, 2*time.Minute, what, func() bool { return b.look(t, tab, expression) == "yes" })
	}
	enter := func() {
		says("a field for a token", fmt.Sprintf(typed, token))
		says("the page of before", `document.querySelector(".caller").textContent.includes("vi") && location.hash === "#/jobs?state=failed" && document.querySelector(".heading h1").textContent === "Jobs" && "yes"`)
	}
	enter()
	if found := b.look(t, tab, `[...document.querySelectorAll(".actions button")].map(e => e.textContent).join()`); found != "" {
		t.Errorf("a viewer is shown %q", found)
	}
	says("that the session is over", `document.querySelector("#sign-in [role=alert]").textContent.includes("session is over") && "yes"`)
	enter()
}
