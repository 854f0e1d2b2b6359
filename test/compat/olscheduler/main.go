// Command olscheduler runs the integration tests of a checkout of olscheduler, which
// start the program and talk to it, with rota in its place. README.md says how; people
// and CI run it by test/compat/olscheduler/run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rota-project/rota/internal/text"
)

// limit is how long the suite may take.
const limit = 5 * time.Minute

// unusable is why the checkout cannot be used.
type unusable struct{ why string }

func (u *unusable) Error() string { return u.why }

func main() {
	failed, err := run(os.Getenv("ROTA_COMPAT_OLSCHEDULER"), os.Args[len(os.Args)-1])
	var u *unusable
	switch {
	case errors.As(err, &u):
		fmt.Fprintln(os.Stderr, "olscheduler:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "olscheduler:", err)
		os.Exit(1)
	case failed:
		os.Exit(1)
	}
}

// report is what jest writes.
type report struct {
	TestResults []struct {
		Name             string `json:"name"`
		Status           string `json:"status"`
		Message          string `json:"message"`
		AssertionResults []struct {
			FullName        string   `json:"fullName"`
			Status          string   `json:"status"`
			FailureMessages []string `json:"failureMessages"`
		} `json:"assertionResults"`
	} `json:"testResults"`
}

func run(checkout, rota string) (failed bool, err error) {
	suite := filepath.Join(checkout, "test")
	if _, err := os.Stat(filepath.Join(suite, "package.json")); checkout == "" || err != nil { //nolint:gosec // the user's own checkout
		return false, &unusable{fmt.Sprintf("ROTA_COMPAT_OLSCHEDULER: %q: want a checkout, with test/package.json", checkout)}
	}
	if _, err := os.Stat(filepath.Join(suite, "node_modules")); err != nil { //nolint:gosec // the same
		return false, &unusable{suite + " has no node_modules: install what its package.json names"}
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return false, &unusable{"the suite needs node and npm"}
	}
	dir, err := os.MkdirTemp("", "olscheduler-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.CopyFS(filepath.Join(dir, "test"), os.DirFS(suite)); err != nil {
		return false, fmt.Errorf("copying the suite: %w", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil { //nolint:gosec // a folder of programs
		return false, err
	}
	if err := os.Symlink(rota, filepath.Join(dir, "bin", "olscheduler")); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r, err := jest(ctx, dir)
	// The tests wait for one or two seconds and then expect that all runs, which on a
	// busy machine it does not: what failed is tried again.
	for n := 0; err == nil && n < tries-1; n++ {
		again := failing(r)
		if len(again) == 0 {
			break
		}
		var next report
		if next, err = jest(ctx, dir, again...); err == nil {
			r.replace(next)
		}
	}
	if err != nil {
		return false, err
	}
	return table(r)
}

// tries is how often a file of tests is tried.
const tries = 4

// jest runs all tests, or those of some files.
func jest(ctx context.Context, dir string, files ...string) (r report, err error) {
	if err := portsAreFree(ctx); err != nil {
		return r, err
	}
	out := filepath.Join(dir, "report.json")
	// One file after another: they use the same ports.
	cmd := exec.CommandContext(ctx, "npm", append([]string{"test", "--", "--runInBand", "--json", "--outputFile=" + out}, files...)...) //nolint:gosec // its own files
	cmd.Dir = filepath.Join(dir, "test")
	said, ranErr := cmd.CombinedOutput()
	raw, err := os.ReadFile(out)
	if err != nil {
		return r, fmt.Errorf("the suite did not run: %w: %s", errors.Join(ranErr, err), said)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("the suite's report: %w", err)
	}
	return r, os.Remove(out)
}

// portsAreFree is nil if nobody listens where the suite's gateways will, for a while at
// most: those of the tests before may just be ending.
func portsAreFree(ctx context.Context) error {
	for _, port := range []string{"9010", "9020", "9030", "9040", "9080"} {
		var err error
		for range 20 {
			var l net.Listener
			if l, err = new(net.ListenConfig).Listen(ctx, "tcp", "localhost:"+port); err == nil {
				_ = l.Close()
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err != nil {
			return &unusable{"the suite needs port " + port + ": " + err.Error()}
		}
	}
	return nil
}

// failing are the names of the files of which a test failed.
func failing(r report) (names []string) {
	for _, file := range r.TestResults {
		if file.Status != "passed" {
			names = append(names, filepath.Base(file.Name))
		}
	}
	return names
}

// replace takes the results of files that were tried again.
func (r *report) replace(next report) {
	for _, n := range next.TestResults {
		for i := range r.TestResults {
			if r.TestResults[i].Name == n.Name {
				r.TestResults[i] = n
			}
		}
	}
}

// table prints what was tried; it fails where a test did, or none ran.
func table(r report) (failed bool, err error) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	say := func(how, name, why string) { _, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", how, name, why) } // Flush says what failed
	tried := 0
	for _, file := range r.TestResults {
		if len(file.AssertionResults) == 0 {
			failed = true
			say("FAIL", filepath.Base(file.Name), line(file.Message))
		}
		for _, t := range file.AssertionResults {
			tried++
			if t.Status == "passed" {
				say("ok", t.FullName, "")
				continue
			}
			failed = true
			say("FAIL", t.FullName, line(strings.Join(t.FailureMessages, " ")))
		}
	}
	if tried == 0 {
		return true, errors.Join(errors.New("no test ran"), w.Flush())
	}
	return failed, w.Flush()
}

// line is the beginning of a text, on one line.
func line(s string) string { return text.Clip(strings.Join(strings.Fields(s), " "), 200) }
