package cli

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/internal/text"
)

// How a check ended.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkFail = "fail"
)

// check is one line of rota doctor.
type check struct {
	Status string `json:"status"`
	Check  string `json:"check"`
	Text   string `json:"text"`
	Mend   string `json:"mend,omitempty"`
}

// checks collects them.
type checks []check

func (c *checks) add(status, name, mend, format string, args ...any) {
	if status == checkOK {
		mend = ""
	}
	*c = append(*c, check{status, name, terminal.Printable(fmt.Sprintf(format, args...)), mend})
}

func (c checks) worst() string {
	worst := checkOK
	for _, one := range c {
		switch one.Status {
		case checkFail:
			return checkFail
		case checkWarn:
			worst = checkWarn
		}
	}
	return worst
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Annotations: map[string]string{etcdBeside: ""},
		Use:         "doctor",
		Short:       "check the cluster, its etcd and this machine's credentials",
		Long: `Check the cluster, its etcd and this machine's credentials.

Each check prints one line: ok, warn or fail, and the remedy. Doctor only reads and
needs the role viewer; it reports parts that the caller may not read. It compares the
clocks of this machine, the schedulers and the workers. It also checks when their
certificates, the authority's and the caller's token expire (warning 14 days before).

If no scheduler answers, doctor makes the checks that are possible from this machine.
With --etcd (without --root) it then also asks the members of etcd. With --etcd and
--root it checks a peer cluster.

Exit status: 0 if no check failed (there may be warnings), 1 if one did, 2 for
wrong usage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.client.etcd.asked {
				return usagef("rota doctor asks schedulers; --etcd and --root are for peer clusters")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), a.client.timeout)
			defer cancel()
			var c checks
			a.checkFiles(&c, time.Now())
			if err := a.checkCluster(ctx, &c); err != nil {
				return err
			}
			a.stale = 0 // it has been said
			if err := a.printChecks(c); err != nil {
				return err
			}
			if c.worst() == checkFail {
				return &exitError{ExitFailed}
			}
			return nil
		},
	}
}

func (a *app) printChecks(c checks) error {
	if a.output == "table" {
		t := terminal.NewTable("CHECK", "STATUS", "WHAT")
		for _, one := range c {
			text := one.Text
			if one.Mend != "" {
				text += "; " + one.Mend
			}
			t.Add(one.Check, one.Status, text)
		}
		return t.Write(a.env.Stdout, nil)
	}
	if a.output == "jsonl" {
		for _, one := range c {
			line, err := json.Marshal(one)
			if err != nil {
				return err
			}
			if err := a.printJSON(line); err != nil {
				return err
			}
		}
		return nil
	}
	line, err := json.Marshal(struct {
		Status string `json:"status"`
		Checks checks `json:"checks"`
	}{c.worst(), c})
	if err != nil {
		return err
	}
	return a.printJSON(line)
}

// endsSoon is when a certificate is spoken of.
const endsSoon = 14 * 24 * time.Hour

// checkFiles checks the files with which this machine calls.
func (a *app) checkFiles(c *checks, now time.Time) {
	for _, f := range []struct{ name, path, mend string }{
		{"tls-ca", a.client.ca, "make a new authority: rota cert init"},
		{"tls-cert", a.client.cert, "rota cert renew, or issue a new one: rota cert issue"},
		{"etcd-ca", a.client.etcd.ca, "use the newer one"},
		{"etcd-cert", a.client.etcd.cert, "rota cert renew, or issue a new one: rota cert issue"},
	} {
		if f.path == "" {
			continue
		}
		if ends, err := firstEnd(f.path); err != nil {
			c.add(checkFail, "--"+f.name, "name a readable PEM file", "%v", err)
		} else {
			c.addEnd("--"+f.name, f.path, ends, now, f.mend)
		}
	}
	for _, f := range []struct{ name, path string }{{"tls-key", a.client.key}, {"token-file", a.client.token}, {"etcd-key", a.client.etcd.key}, {"etcd-password-file", a.client.etcd.passwordFile}} {
		if f.path == "" {
			continue
		}
		if _, err := secretfile.Read(f.path); err != nil {
			c.add(checkFail, "--"+f.name, "", "%v", err)
		} else {
			c.add(checkOK, "--"+f.name, "", "%s is readable by this user and no other", f.path)
		}
	}
}

// firstEnd is when the first certificate of a file ends.
func firstEnd(path string) (ends time.Time, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return ends, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return ends, fmt.Errorf("%s: %w", path, err)
		}
		if ends.IsZero() || cert.NotAfter.Before(ends) {
			ends = cert.NotAfter
		}
	}
	if ends.IsZero() {
		return ends, fmt.Errorf("%s: no certificate in it", path)
	}
	return ends, nil
}

// asked is what the schedulers said.
type asked struct {
	best     *rotav1.Status // of the scheduler whose picture is the newest; nil if none tells
	refused  bool           // by one that answers
	versions map[string]bool
	clocks   clocks
	workers  workersSeen
}

// checkCluster asks every scheduler that is known how it is, and the one whose
// picture is the newest how the cluster is. It asks etcd itself where no scheduler can
// tell how that is, and it was said where it is.
func (a *app) checkCluster(ctx context.Context, c *checks) error {
	got := &asked{versions: map[string]bool{}}
	if a.client.etcd.asked {
		if err := a.askRoot(ctx, c, got); err != nil {
			return err
		}
	} else {
		a.askSchedulers(ctx, c, got)
	}
	if len(a.client.etcd.endpoints) > 0 && (got.best == nil || got.best.GetStale() || len(got.best.GetStore()) == 0) {
		if err := a.askEtcd(ctx, c); err != nil {
			return err
		}
	}
	if got.best == nil {
		return nil
	}
	checkCaller(c, got.best.GetCaller(), time.Now())
	if len(got.versions) > 1 {
		c.add(checkWarn, "versions", "finish the upgrade", "the schedulers are of %d versions", len(got.versions))
	}
	if got.best.GetLeader() == "" {
		c.add(checkFail, "leader", "wait for one lease; then read the schedulers' logs", "nobody leads")
	} else {
		c.add(checkOK, "leader", "", "%s, epoch %d", got.best.GetLeader(), got.best.GetEpoch())
	}
	checkStore(c, got.best)
	checkWork(c, got.best)
	got.workers.check(c, time.Now())
	got.clocks.check(c, got.workers.unknown())
	return nil
}

// askSchedulers asks those that were named, and those that they know.
func (a *app) askSchedulers(ctx context.Context, c *checks, got *asked) {
	dial := a.env.Dial
	if dial == nil {
		a.client.findServer(a.env.Lookup)
		dial = a.dial
	}
	done := map[string]bool{}
	ask := func(addr, name string) {
		if done[addr] {
			return
		}
		done[addr] = true
		conn, err := dial(ctx, addr)
		if err == nil {
			err = got.ask(ctx, c, conn, name)
		}
		if err != nil {
			c.add(checkFail, name, "start it, or give its address with --server and --tls-ca", "%s", oneLine(err))
		}
	}
	for _, addr := range a.client.servers {
		ask(addr, "scheduler "+addr)
	}
	if got.best == nil {
		text := "no scheduler answers: only local checks were made"
		if len(a.client.etcd.endpoints) == 0 {
			text += "; --etcd checks etcd, too"
		}
		if got.refused {
			text = strings.Replace(text, "no scheduler answers", "no scheduler lets this caller read anything", 1)
		}
		c.add(checkWarn, "cluster", "", "%s", text)
		return
	}
	for _, sc := range got.best.GetSchedulers() {
		if addr := sc.GetGrpc(); addr != "" && len(got.best.GetSchedulers()) > 1 {
			ask(addr, "scheduler "+sc.GetName())
		}
	}
}

// ask asks one scheduler. One that answers, but not to this caller, is told, and no
// error.
func (got *asked) ask(ctx context.Context, c *checks, conn *grpc.ClientConn, name string) error {
	defer func() { _ = conn.Close() }() // it was only read
	var from peer.Peer
	sent := time.Now()
	s, err := clusterOf(conn).GetStatus(ctx, &rotav1.GetStatusRequest{}, grpc.Peer(&from))
	received := time.Now()
	switch age := time.Duration(s.GetAgeMs()) * time.Millisecond; {
	case mayNot(err):
		got.refused = true
		c.add(checkFail, name, "use a token with the role viewer", "answers, but not to this caller: %s", oneLine(err))
		return nil
	case err != nil:
		return err
	case s.GetStale():
		c.add(checkFail, name, "check that etcd has a quorum and that this scheduler reaches it (docs/etcd.md)",
			"has heard nothing from its store for %v", age.Round(time.Second))
	default:
		c.add(checkOK, name, "", "version %s, as of %.1f s ago", dash(s.GetVersion()), age.Seconds())
	}
	checkServed(c, name, from.AuthInfo, received)
	got.versions[s.GetVersion()] = true
	ahead, known := got.clocks.note(name, s.GetTime(), sent, received)
	list, err := workersOf(conn).ListWorkers(ctx, &rotav1.ListWorkersRequest{})
	got.workers.note(list.GetWorkers(), err)
	for _, w := range list.GetWorkers() {
		if known && w.ClockAheadMs != nil {
			got.clocks.add("worker "+w.GetName(), ahead+time.Duration(w.GetClockAheadMs())*time.Millisecond)
		}
	}
	if got.best == nil || s.GetAgeMs() < got.best.GetAgeMs() {
		got.best = s
	}
	return nil
}

// mayNot reports whether an error says that this caller may not ask.
func mayNot(err error) bool {
	code := status.Code(err)
	return err != nil && (code == codes.PermissionDenied || code == codes.Unauthenticated)
}

// checkWork checks tasks and where they come from.
func checkWork(c *checks, s *rotav1.Status) {
	t := s.GetTasks()
	tasks := fmt.Sprintf("%d declared, %d running, %d waiting, %d failing", t.GetDeclared(), t.GetRunning(), t.GetWaiting()-t.GetFailing(), t.GetFailing())
	switch {
	case t.GetFailing() > 0:
		c.add(checkWarn, "tasks", "rota task list --state failing shows which; rota why ID shows the error", "%s", tasks)
	case t.GetWaiting() > 0:
		c.add(checkWarn, "tasks", "rota why TASK shows what a task waits for", "%s", tasks)
	default:
		c.add(checkOK, "tasks", "", "%s", tasks)
	}
	for _, src := range s.GetSources() {
		name := "source " + src.GetName()
		switch {
		case src.GetError() != "":
			c.add(checkFail, name, "correct the list; the last valid one stays in effect", "%s", src.GetError())
		case src.GetHeld() != nil:
			c.add(checkWarn, name, "rota schedule confirm accepts it", "holds a list that would remove %d of %d tasks", src.GetHeld().GetRemoves(), src.GetHeld().GetOf())
		default:
			c.add(checkOK, name, "", "%s", text.Count(src.GetTasks(), "task", "tasks"))
		}
	}
}

// someNames are the first of many.
func someNames(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
