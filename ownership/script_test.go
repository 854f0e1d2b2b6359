package ownership_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScripts runs the stories in testdata. A file is blocks of commands, a
// line of four dashes, and what they answer; an empty line ends a block. The
// commands are in script.ledger and script.worker.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 12 {
		t.Fatalf("%d stories in testdata", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := runScript(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("is not as expected (go test ./ownership -run Scripts -update rewrites it):\n%s", difference(string(text), got))
			}
		})
	}
}

// difference shows the first line that differs.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for n := range max(len(w), len(g)) {
		a, b := "(end)", "(end)"
		if n < len(w) {
			a = w[n]
		}
		if n < len(g) {
			b = g[n]
		}
		if a != b {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", n+1, a, b)
		}
	}
	return ""
}

func runScript(text string) (string, error) {
	s := &script{holders: map[string]*ownership.Holder{}}
	var out strings.Builder
	for n, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if n > 0 {
			out.WriteString("\n")
		}
		commands, _, _ := strings.Cut(block, "\n----")
		out.WriteString(commands + "\n")
		ran := false
		var answer strings.Builder
		for line := range strings.Lines(commands) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			ran = true
			if err := s.run(strings.Fields(line), &answer); err != nil {
				return "", fmt.Errorf("%q: %w", line, err)
			}
		}
		if ran {
			out.WriteString("----\n" + answer.String())
		}
	}
	return out.String(), nil
}

type script struct {
	ledger  ownership.Ledger
	holders map[string]*ownership.Holder
}

func (s *script) run(f []string, out *strings.Builder) error {
	a := &args{words: f[1:]}
	if h := s.holders[f[0]]; h != nil {
		s.worker(h, a, out)
	} else if err := s.account(f[0], a, out); err != nil {
		return err
	}
	if a.err == nil && len(a.words) > 0 {
		return fmt.Errorf("%v is too much", a.words)
	}
	return a.err
}

// account runs a command of the ledger, or makes a worker.
func (s *script) account(command string, a *args, out *strings.Builder) error {
	l := &s.ledger
	switch command {
	case "worker": // NAME
		trust := ownership.DefaultTrust(5 * time.Second)
		if a.flag("no-drift") {
			trust.Drift = 0
		}
		s.holders[a.word()] = ownership.NewHolder(trust)
	case "limits": // ALL PER-WORKER
		l.Limits = ownership.Limits{InAll: a.number(), PerWorker: a.number()}
	case "session": // WORKER SESSION
		l.Session(a.word(), int64(a.number()))
	case "leaving": // WORKER [not]
		not := a.flag("not")
		l.Leaving(a.word(), !not)
	case "target": // INSTANCE [WORKER] [available] [spec=N] [priority=N]
		i, t := a.instance(), ownership.Target{}
		t.Spec, t.Priority = uint64(a.setting("spec", 1)), float64(a.setting("priority", 0))
		if a.flag("available") {
			t.Mode = rota.Available
		}
		if len(a.words) > 0 {
			t.Worker = a.word()
		} else {
			t = ownership.Target{}
		}
		l.Target(i, t)
	case "ack": // WORKER INSTANCE GENERATION STATE
		l.Ack(a.word(), a.instance(), rota.Generation(a.number()), ownership.State(a.word()))
	case "record": // WORKER INSTANCE GENERATION SESSION [revoked] [spec=N]
		g := ownership.Grant{Revoked: a.flag("revoked"), Spec: uint64(a.setting("spec", 1))}
		w := a.word()
		g.Instance, g.Generation, g.Session = a.instance(), rota.Generation(a.number()), int64(a.number())
		l.Record(w, g, false)
	case "remove": // WORKER INSTANCE
		w := a.word()
		l.Record(w, ownership.Grant{Instance: a.instance()}, true)
	case "ready": // GENERATION: what is to write
		show(l.Ready(rota.Generation(a.number())), out)
	case "write": // GENERATION: write what is to write, and record it
		e := l.Ready(rota.Generation(a.number()))
		show(e, out)
		record(l, e)
	case "moving":
		fmt.Fprintf(out, "%d moving\n", l.Moving())
	default:
		return fmt.Errorf("no such command or worker")
	}
	return nil
}

// record confirms all effects.
func record(l *ownership.Ledger, e ownership.Effects) {
	for _, h := range e.Release {
		l.Record(h.Worker, h.Grant, true)
	}
	for _, h := range e.Revoke {
		h.Revoked = true
		l.Record(h.Worker, h.Grant, false)
	}
	for _, h := range e.Grant {
		l.Record(h.Worker, h.Grant, false)
	}
}

func show(e ownership.Effects, out *strings.Builder) {
	for _, h := range e.Release {
		fmt.Fprintf(out, "release %v from %s generation %d\n", h.Instance, h.Worker, h.Generation)
	}
	for _, h := range e.Revoke {
		fmt.Fprintf(out, "revoke %v from %s generation %d\n", h.Instance, h.Worker, h.Generation)
	}
	for _, h := range e.Grant {
		fmt.Fprintf(out, "grant %v to %s generation %d session %d spec %d\n", h.Instance, h.Worker, h.Generation, h.Session, h.Spec)
	}
	if e.Empty() {
		out.WriteString("nothing\n")
	}
}

// worker runs a command of a worker: COMMAND TIME ...; it shows what the worker
// is to do, what it acknowledges and when it is to be asked next.
func (s *script) worker(h *ownership.Holder, a *args, out *strings.Builder) {
	command, now := a.word(), a.time()
	var actions []ownership.Action
	acks := false
	switch command {
	case "sent": // SEQ
		h.Sent(uint64(a.number()), now)
		return
	case "renewed": // SEQ
		actions = h.Renewed(uint64(a.number()), 5*time.Second, now)
	case "disconnected":
		h.Disconnected()
		return
	case "lost":
		actions = h.SessionLost(now)
	case "leave":
		actions = h.Leave(now)
	case "only": // INSTANCE...
		keep := map[rota.Instance]bool{}
		for len(a.words) > 0 {
			keep[a.instance()] = true
		}
		actions = h.Only(keep, now)
	case "give": // GENERATION INSTANCE... [available] [priority=N]
		o := ownership.Order{Generation: rota.Generation(a.number()), Priority: float64(a.setting("priority", 0))}
		if a.flag("available") {
			o.Mode = rota.Available
		}
		var orders []ownership.Order
		for len(a.words) > 0 {
			o.Instance = a.instance()
			orders = append(orders, o)
		}
		actions = h.Give(orders, now)
	case "take": // GENERATION INSTANCE
		gen := rota.Generation(a.number())
		actions = h.Take(a.instance(), gen, now)
	case "called": // INSTANCE
		h.Called(a.instance(), now)
	case "returned": // INSTANCE [ERROR]
		i, text := a.instance(), ""
		if len(a.words) > 0 {
			text = a.word()
		}
		actions = h.Returned(i, text, ownership.Exit{}, now)
	case "tick":
		actions = h.Tick(now)
	case "held":
		acks = true
	default:
		a.err = fmt.Errorf("no such command of a worker")
		return
	}
	for _, act := range actions {
		does := map[ownership.Do]string{
			ownership.Start: "start", ownership.Stop: "stop", ownership.Adopt: "adopt", ownership.Die: "DIE for",
		}[act.Do]
		fmt.Fprintf(out, "%s %v generation %d\n", does, act.Instance, act.Generation)
	}
	told := h.Acks()
	if acks {
		told = h.Held(now)
	}
	for _, k := range told {
		fmt.Fprintf(out, "  says %v generation %d %s", k.Instance, k.Generation, k.State)
		if k.Restarts > 0 {
			fmt.Fprintf(out, " restarts %d error %q", k.Restarts, k.Error)
		}
		out.WriteString("\n")
	}
	if at, ok := h.Next(now); ok {
		fmt.Fprintf(out, "  next at %v\n", at)
	} else {
		out.WriteString("  next never\n")
	}
}

// args takes words one by one and keeps the first error.
type args struct {
	words []string
	err   error
}

func (a *args) word() string {
	if len(a.words) == 0 {
		a.keep(fmt.Errorf("a word is missing"))
		return ""
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

func (a *args) keep(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *args) number() int {
	n, err := strconv.Atoi(a.word())
	if err != nil {
		a.keep(err)
	}
	return n
}

func (a *args) time() time.Duration {
	d, err := time.ParseDuration(a.word())
	if err != nil {
		a.keep(err)
	}
	return d
}

func (a *args) instance() rota.Instance {
	task, index, found := strings.Cut(a.word(), "#")
	i := rota.Instance{Task: task}
	if found {
		n, err := strconv.Atoi(index)
		if err != nil {
			a.keep(err)
		}
		i.Index = n
	}
	return i
}

// flag takes a word out, wherever it is.
func (a *args) flag(name string) bool {
	for n, w := range a.words {
		if w == name {
			a.words = append(a.words[:n:n], a.words[n+1:]...)
			return true
		}
	}
	return false
}

// setting takes name=N out, wherever it is.
func (a *args) setting(name string, otherwise int) int {
	for n, w := range a.words {
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			a.words = append(a.words[:n:n], a.words[n+1:]...)
			number, err := strconv.Atoi(v)
			if err != nil {
				a.keep(err)
			}
			return number
		}
	}
	return otherwise
}
