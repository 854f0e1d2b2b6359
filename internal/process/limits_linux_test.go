package process

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rota-project/rota"
)

// What Possible allows can be started, and what it refuses names what is missing.
func TestPossible(t *testing.T) {
	t.Parallel()
	other := &User{UID: 65534, GID: 65534}
	for name, c := range map[string]struct {
		limits Limits
		user   *User
		field  string // that is at fault; empty if none is for root with all capabilities
	}{
		"nothing":                            {},
		"memory without a cgroup":            {Limits{Memory: 1 << 30}, nil, "limits.memory"},
		"processes without a cgroup":         {Limits{Processes: 10}, other, "limits.processes"},
		"processors without a cgroup":        {Limits{CPUs: 1}, nil, "limits.cpus"},
		"address space":                      {Limits{AddressSpace: 1 << 30}, nil, ""},
		"processes of the worker's user":     {Limits{UserProcesses: 10}, nil, "limits.user_processes"},
		"processes of another user":          {Limits{UserProcesses: 10}, other, ""},
		"another user":                       {Limits{}, other, ""},
		"another user with few files":        {Limits{OpenFiles: 64}, other, ""},
		"more files than the machine allows": {Limits{OpenFiles: 1 << 40}, nil, "limits.open_files"},
	} {
		err := c.limits.Possible(nil, c.user)
		var field *rota.FieldError
		switch {
		case c.field != "" && (!errors.As(err, &field) || field.Field != c.field):
			t.Errorf("%s: %v, want an error of %s", name, err, c.field)
		case c.field == "" && err == nil:
			if exit, _, _ := run(t, Spec{Argv: []string{"true"}, Limits: c.limits, User: c.user}); !exit.Success() {
				t.Errorf("%s: found possible, and ends with %s", name, exit)
			}
		}
	}
}

// The same as root without a capability, and as an ordinary user: what cannot be
// kept there is refused, naming the capability.
func TestPossibleWithout(t *testing.T) {
	t.Parallel()
	if what := os.Getenv("PROCESS_TEST_POSSIBLE"); what != "" {
		other := &User{UID: 65534, GID: 65534}
		if what == "ordinary" {
			other = &User{UID: 65533, GID: 65533}
		}
		for _, err := range []error{
			Limits{}.Possible(nil, other), Limits{OpenFiles: 64}.Possible(nil, other), Limits{OpenFiles: 64}.Possible(nil, nil),
			Limits{OpenFiles: hardFiles() + 1}.Possible(nil, nil),
		} {
			println("SAID", strings.ReplaceAll(errorText(err), "\n", " "))
		}
		return
	}
	if os.Geteuid() != 0 {
		return // capabilities can only be dropped by who has them: the table above is all there is
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal("setpriv of util-linux is needed to drop capabilities: ", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want [4]string // a part of each answer
	}{
		"resource": {
			[]string{"--inh-caps=-sys_resource", "--bounding-set=-sys_resource"},
			[4]string{"possible", "CAP_SYS_RESOURCE", "possible", "CAP_SYS_RESOURCE"},
		},
		"kill":  {[]string{"--inh-caps=-kill", "--bounding-set=-kill"}, [4]string{"CAP_KILL", "CAP_KILL", "possible", ""}},
		"every": {[]string{"--inh-caps=-all", "--bounding-set=-all"}, [4]string{"CAP_SETUID", "CAP_SETUID", "possible", "CAP_SYS_RESOURCE"}},
		"ordinary": {
			[]string{"--reuid=65534", "--regid=65534", "--clear-groups"},
			[4]string{"CAP_SETUID", "CAP_SETUID", "possible", "CAP_SYS_RESOURCE"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The binary is where only root may go: it is handed over open.
			f, err := os.Open(self)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			cmd := exec.Command(setpriv, append(c.args, "/proc/self/fd/3", "-test.run=^TestPossibleWithout$")...)
			cmd.ExtraFiles = []*os.File{f}
			cmd.Env = []string{"PROCESS_TEST_POSSIBLE=" + name, "PATH=" + DefaultPath, "TMPDIR=/tmp"}
			cmd.Dir = "/"
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var said []string
			for l := range strings.Lines(string(out)) {
				if text, ok := strings.CutPrefix(l, "SAID "); ok {
					said = append(said, text)
				}
			}
			if len(said) != len(c.want) {
				t.Fatalf("said %q", out)
			}
			for n, want := range c.want {
				if !strings.Contains(said[n], want) {
					t.Errorf("answer %d is %q, want %s", n, said[n], want)
				}
			}
		})
	}
}

// hardFiles is the hard limit of open files.
func hardFiles() int64 {
	var own unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &own)
	return int64(own.Max)
}

func errorText(err error) string {
	if err == nil {
		return "possible"
	}
	return err.Error()
}

// Limits without a cgroup are of each process: a job that has several processes has a
// limit several times.
func TestLimitsOfEachProcess(t *testing.T) {
	t.Parallel()
	_, out, errOut := run(t, Spec{Dir: t.TempDir(), Limits: Limits{OpenFiles: 32}, Argv: []string{"bash", "-c", `
		open() { for i in {1..20}; do exec {fd}</dev/null || exit 1; done; }
		(open; open; >twice) 2>/dev/null
		for n in 1 2 3; do
			( (open; >has$n; until [ -e failed ] || [ -e has1 -a -e has2 -a -e has3 ]; do sleep 0.01; done) || >failed ) &
		done
		wait; echo *`}})
	if out != "has1 has2 has3\n" {
		t.Errorf("%q %q", out, errOut)
	}
}
