//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestContainerfile: the last stage of the image is on a static base, is run by a user
// without rights, and what it starts and asks are commands of rota.
func TestContainerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{} // of the last stage
	var copies []string
	for line := range strings.Lines(string(text)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "FROM" {
			clear(said)
			copies = nil
		}
		if word == "COPY" {
			copies = append(copies, rest)
		}
		said[word] = rest
	}
	if !strings.Contains(said["FROM"], "/static-") || said["USER"] != "65532:65532" || said["VOLUME"] != `["/var/lib/rota"]` {
		t.Errorf("%v", said)
	}
	// Nothing that runs is the user's own; the directory of data is.
	if want := []string{"--from=build /program /", "--from=build --chown=65532:65532 /data /"}; !slices.Equal(copies, want) {
		t.Errorf("copied %q, want %q", copies, want)
	}
	list := func(name string) (words []string) {
		_, from, _ := strings.Cut(said[name], "[")
		if err := json.Unmarshal([]byte("["+from), &words); err != nil || len(words) == 0 {
			t.Fatalf("%s %s: %v", name, said[name], err)
		}
		return words
	}
	if entry := list("ENTRYPOINT"); !slices.Equal(entry, []string{"/usr/bin/rota"}) {
		t.Errorf("entry %q", entry)
	}
	run := func(env []string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), rotaBin, args...)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("rota %q: %w: %s", args, err, out)
		}
		return nil
	}
	if err := run(nil, append([]string{"config", "check"}, list("CMD")...)...); err != nil {
		t.Error(err)
	}
	health := list("HEALTHCHECK")
	if health[0] != "/usr/bin/rota" {
		t.Fatalf("health check %q", health)
	}
	server := "ROTA_SERVER=" + edgeScheduler(t).grpc
	await(t, 2*time.Minute, "it is healthy", func() bool { return run([]string{server}, health[1:]...) == nil })
}
