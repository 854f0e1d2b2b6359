package suite

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/rota-project/rota/internal/text"
)

// Outcome is what came of something that was tried.
type Outcome string

// The outcomes.
const (
	Passes  Outcome = "passes"
	Fails   Outcome = "fails"
	Endless Outcome = "endless" // it did not end in its time
	Unbuilt Outcome = "unbuilt" // a file does not compile; its tests were not tried
	Skipped Outcome = "skipped" // by itself
	Unrun   Outcome = "unrun"   // because the list says so
)

// Result is something that was tried.
type Result struct {
	Name    string // of a test, with those above it, or of a file
	Outcome Outcome
	Why     string
}

// Known is a difference as it is written down.
type Known struct {
	Outcome Outcome
	Name    string
	Why     string
	// Same says that the old system has the same outcome: it is no difference.
	Same bool
}

// ParseKnown reads a list of differences: a line for each, "OUTCOME NAME REASON", with
// an = before the outcome if it is the old system's own. Lines that begin with # and
// empty ones count for nothing.
func ParseKnown(text string) (list []Known, err error) {
	for n, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) < 3 {
			return nil, fmt.Errorf("line %d of the list of differences: want OUTCOME NAME REASON: %q", n+1, line)
		}
		outcome, same := strings.CutPrefix(words[0], "=")
		k := Known{Outcome(outcome), words[1], strings.Join(words[2:], " "), same}
		if !slices.Contains([]Outcome{Fails, Endless, Unbuilt, Skipped, Unrun}, k.Outcome) {
			return nil, fmt.Errorf("line %d of the list of differences: %q: want fails, endless, unbuilt, skipped or unrun", n+1, outcome)
		}
		if find(list, k.Name) != nil {
			return nil, fmt.Errorf("line %d of the list of differences: %s is in it twice", n+1, k.Name)
		}
		list = append(list, k)
	}
	return list, nil
}

func find(list []Known, name string) *Known {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// Table writes what was tried, and compares it with what is known to differ.
func Table(out io.Writer, results []Result, known []Known) (failed bool, err error) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	say := func(how, name, why string) { // Flush says what failed
		failed = failed || how == "FAIL"
		_, _ = fmt.Fprintln(w, strings.TrimSpace(how+"\t"+name+"\t"+why))
	}
	tried := 0
	seen := map[string]bool{}
	for _, r := range results {
		seen[r.Name] = true
		if r.Outcome == Passes || r.Outcome == Fails || r.Outcome == Endless {
			tried++
		}
		k := find(known, r.Name)
		switch {
		case k == nil && r.Outcome == Passes:
			say("ok", r.Name, "")
		case k == nil:
			say("FAIL", r.Name, line(string(r.Outcome)+": "+r.Why))
		case k.Outcome != r.Outcome:
			say("FAIL", r.Name, line(fmt.Sprintf("is written down as %s, and is so no more: %s %s", k.Outcome, r.Outcome, r.Why)))
		case k.Same:
			say("ok", r.Name, string(k.Outcome)+", as there: "+k.Why)
		default:
			say("differs", r.Name, string(k.Outcome)+": "+k.Why)
		}
	}
	for _, k := range known {
		if !seen[k.Name] {
			say("FAIL", k.Name, "is written down as "+string(k.Outcome)+", and is not in this checkout")
		}
	}
	err = w.Flush()
	if tried == 0 {
		err = errors.Join(errors.New("nothing was tried"), err)
	}
	return failed, err
}

// line is the beginning of a text, on one line.
func line(s string) string { return text.Clip(strings.Join(strings.Fields(s), " "), 300) }
