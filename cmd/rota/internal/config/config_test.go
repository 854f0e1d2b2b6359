package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/rota-project/rota/placement"
)

// load loads o from a file's text (none if name is empty), an environment and flags.
func load(t *testing.T, o *Options, name, text string, env map[string]string, flags ...string) error {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.AddFlags(fs)
	if name != "" {
		name = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "--config", name)
	}
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	return o.Load(func(k string) (string, bool) { v, ok := env[k]; return v, ok })
}

func TestLayers(t *testing.T) {
	t.Parallel()
	c, o := NewScheduler()
	err := load(t, o, "rota.toml", "name = 'file'\nlease = '2s'\ninterval = '3s'\n[etcd]\nendpoints = ['a:1', 'b:2']\n",
		map[string]string{"ROTA_LEASE": "4s", "ROTA_INTERVAL": "5s", "ROTA_LEAZE": "1s"}, "--interval=6s", "--tasks-columns=id={a},group={b}", "--tasks-columns", "weight={c}")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "file" || c.Lease != 4*time.Second || c.Interval != 6*time.Second || c.PassTimeout != 30*time.Second ||
		!reflect.DeepEqual(c.Etcd, []string{"a:1", "b:2"}) ||
		!reflect.DeepEqual(c.TasksColumns, map[string]string{"id": "{a}", "group": "{b}", "weight": "{c}"}) {
		t.Errorf("got %+v", c)
	}
	for _, s := range o.Settings() {
		want := map[string]string{
			"name": "file rota.toml:1", "lease": "environment ROTA_LEASE", "interval": "flag --interval",
			"pass_timeout": "default ", "etcd": "file rota.toml:5",
		}[s.Key]
		if got := string(s.Source) + " " + filepath.Base(s.Where); want != "" && strings.TrimSuffix(got, ".") != want {
			t.Errorf("%s: from %q, want %q", s.Key, got, want)
		}
	}
	if o.Source("interval") != FromFlag || o.Source("http") != FromDefault {
		t.Error("the sources are wrong")
	}
}

// TestSpellings: the same in TOML and YAML, flat and in tables.
func TestSpellings(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a.toml": "zone = 'z'\nmax_tasks = 5\nstrength = 1.5\nschedulers = ['a:1', 'b:2']\nlog_level = 'debug'\n[labels]\ndisk = 'ssd'\nrack = 7\n[capacity]\ncpus = 4\n[exec]\nfeed = 'run {{.ID}}, now'\n",
		"b.toml": "zone = 'z'\nmax-tasks = 5\nstrength = 1.5\nschedulers = ['a:1', 'b:2']\nlog = {level = 'debug'}\nlabels = ['disk=ssd', 'rack=7']\ncapacity = {cpus = 4}\nexec = ['feed=run {{.ID}}, now']\n",
		"c.yaml": "zone: z\nmax_tasks: 5\nstrength: 1.5\nschedulers: [a:1, b:2]\nlog:\n  level: debug\nlabels: {disk: ssd, rack: 7}\ncapacity:\n  cpus: 4\nexec:\n  feed: run {{.ID}}, now\n",
		"d.conf": "zone = 'z'\nmax_tasks = 5\nstrength = 1.5\nscheduler.addr = 'a:1'\nlog_level = 'debug'\nlabels = {disk='ssd', rack=7}\ncapacity = ['cpus=4']\nexec = {feed='run {{.ID}}, now'}\n",
	} {
		c, o := NewWorker()
		if err := load(t, o, name, text, nil); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "d.conf" {
			c.Schedulers = append(c.Schedulers, "b:2")
		}
		if c.Zone != "z" || c.MaxTasks != 5 || c.Strength != 1.5 || !reflect.DeepEqual(c.Schedulers, []string{"a:1", "b:2"}) || c.Log.Level != "debug" ||
			!reflect.DeepEqual(c.Labels, map[string]string{"disk": "ssd", "rack": "7"}) || c.Capacity["cpus"] != 4 ||
			!reflect.DeepEqual(c.Exec, map[string]string{"feed": "run {{.ID}}, now"}) {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}

func TestExecKeepsCommas(t *testing.T) {
	t.Parallel()
	want := map[string]string{"a": "cmd -x=1,2", "b": "other"}
	c, o := NewWorker()
	if err := load(t, o, "", "", nil, "--exec", "a=cmd -x=1,2", "--exec=b=other"); err != nil || !reflect.DeepEqual(c.Exec, want) {
		t.Errorf("flags: %v %v", c.Exec, err)
	}
	c, o = NewWorker()
	if err := load(t, o, "", "", map[string]string{"ROTA_EXEC": "a=cmd -x=1,2\nb=other\n"}); err != nil || !reflect.DeepEqual(c.Exec, want) {
		t.Errorf("environment: %v %v", c.Exec, err)
	}
}

// TestOlderFiles: the files of the older scheduler and worker load as they are.
func TestOlderFiles(t *testing.T) {
	t.Parallel()
	s, o := NewScheduler()
	err := load(t, o, "scheduler.toml", "[grpc_server]\naddr = \"127.0.0.1:50001\"\nuse_tls = false\ncrt_file = \"server.pem\"\nkey_file = \"server.key\"\n\n[http_server]\naddr = \"127.0.0.1:3001\"\n", nil)
	if err != nil || s.GRPC != "127.0.0.1:50001" || s.HTTP != "127.0.0.1:3001" || s.TLSCert != "server.pem" || s.TLSKey != "server.key" {
		t.Errorf("scheduler: %+v %v", s, err)
	}
	w, o := NewWorker()
	err = load(t, o, "worker.toml", "[grpc_server]\naddr = \"127.0.0.1:30000\"\nuse_tls = false\ncrt_file = \"server.pem\"\nkey_file = \"server.key\"\n\n[scheduler]\naddr = \"127.0.0.1:50001\"\n", nil)
	if err != nil || w.Jobs.Addr != "127.0.0.1:30000" || w.Jobs.CertFile != "server.pem" || !reflect.DeepEqual(w.Schedulers, []string{"127.0.0.1:50001"}) {
		t.Errorf("worker: %+v %v", w, err)
	}
	for _, role := range []func() *Options{
		func() *Options { _, o := NewScheduler(); return o },
		func() *Options { _, o := NewWorker(); return o },
	} {
		err := load(t, role(), "tls.toml", "[grpc_server]\naddr = \"127.0.0.1:30000\"\nuse_tls = true\ncrt_file = \"/not/there.pem\"\nkey_file = \"/not/there.key\"\n", nil)
		if err == nil || !strings.Contains(err.Error(), "tls.toml:3: ") || !strings.Contains(err.Error(), "/not/there.pem") {
			t.Errorf("TLS without its files: %v", err)
		}
	}
	for _, tls := range []string{"false", "true"} { // old schedulers show no credentials
		_, o := NewWorker()
		err := load(t, o, "open.toml", "[grpc_server]\naddr = \"0.0.0.0:30000\"\nuse_tls = "+tls+"\n", nil)
		if err == nil || !strings.Contains(err.Error(), "open.toml:2: ") || !strings.Contains(err.Error(), "want a loopback address") {
			t.Errorf("open to other machines, TLS %s: %v", tls, err)
		}
	}
}

// TestErrors: each is one line that names file, line and key, or flag, or variable.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, text string
		env        map[string]string
		flags      []string
		want       string // the end of the error, after the directory
	}{
		{file: "a.toml", text: "name = 'x'\nhtpp = ':1'\n", want: "a.toml:2: htpp: unknown key; do you mean http?"},
		{file: "a.toml", text: "[etcd]\nendpoint = ['x']\n", want: "a.toml:2: etcd.endpoint: unknown key; do you mean etcd_endpoints?"},
		{file: "a.toml", text: "[wholly]\nnew = 1\n", want: "a.toml:1: wholly: unknown key; rota config show scheduler lists all keys"},
		{file: "a.yaml", text: "lease: 5\n", want: `a.yaml:1: lease: "5": want a duration such as "5s"`},
		{file: "a.toml", text: "lease = '5 s'\n", want: `a.toml:1: lease: "5 s": want a duration such as "5s", zero or more`},
		{file: "a.toml", text: "\nmax_workers = -1\n", want: `a.toml:2: max_workers: "-1": want a whole number, zero or more`},
		{file: "a.toml", text: "max_workers = '1'\n", want: `a.toml:1: max_workers: "1": want a whole number`},
		{file: "a.toml", text: "etcd = [1]\n", want: `a.toml:1: etcd: "1": want a list of texts`},
		{file: "a.toml", text: "name = ['x']\n", want: `a.toml:1: name: "a list": want text`},
		{file: "a.toml", text: "grpc = '127.0.0.1:1'\ngrpc_server.addr = '127.0.0.1:1'\n", want: `a.toml:2: grpc_server.addr: line 1 already sets it`},
		{file: "a.toml", text: "name = 'x'\nname = 'y'\n", want: "a.toml:2: no TOML: key name is already defined"},
		{file: "a.toml", text: "name = \n", want: "a.toml:1: no TOML: "},
		{file: "a.yaml", text: "name: x\nname: y\n", want: `a.yaml:2: `},
		{file: "a.yaml", text: "- x\n", want: "a.yaml:1: want a table of keys and values"},
		{file: "a.yaml", text: "a: [\n", want: "a.yaml:2: no YAML: "},
		{file: "a.toml", text: "http = '0.0.0.0:3000'\n", want: `a.toml:1: http: 0.0.0.0:3000 is open to other machines: use TLS (rota cert init;`},
		{file: "a.toml", text: "log = {level='loud'}\n", want: `a.toml:1: log.level: "loud": want debug or info or warn or error`},
		{env: map[string]string{"ROTA_GRPC": ":50000"}, want: `ROTA_GRPC: :50000 is open to other machines: use TLS (rota cert init;`},
		{env: map[string]string{"ROTA_LEASE": "x"}, want: `ROTA_LEASE: "x": want a duration such as "5s", zero or more`},
		{env: map[string]string{"ROTA_CONFIG": "/not/there"}, want: `ROTA_CONFIG: open /not/there: no such file or directory`},
		{flags: []string{"--http=localhost"}, want: `--http: "localhost": want an address such as 127.0.0.1:3000`},
		{flags: []string{"--http=example.com:3000"}, want: `--http: example.com:3000 is open to other machines: use TLS (rota cert init;`},
		{flags: []string{"--http=127.0.0.1:99999"}, want: `--http: "127.0.0.1:99999": want a port from 0 to 65535`},
		{flags: []string{"--lease=10ms"}, want: `--lease: "10ms": want 1s to 1h`},
		{flags: []string{"--etcd=http://a:1,ftp://x"}, want: `--etcd: "ftp://x": want http://host:port, https://host:port, or host:port`},
		{flags: []string{"--etcd=http://a:1/v3"}, want: `--etcd: "http://a:1/v3": want http://host:port, https://host:port, or host:port`},
		{flags: []string{"--etcd=nowhere"}, want: `--etcd: "nowhere": want http://host:port, https://host:port, or host:port`},
		{flags: []string{"--etcd-cert=x.pem"}, want: `--etcd-cert: want both etcd_cert and etcd_key, or neither`},
		{flags: []string{"--tasks-url=ftp://x"}, want: `--tasks-url: "ftp://x": want an address that begins with http:// or https://`},
		{flags: []string{"--root=a/b"}, want: `--root: "a/b": want a name without slashes`},
		{flags: []string{"--kube-namespaces=prod,A b"}, want: `--kube-namespaces: "A b": want the name of a namespace`},
		{flags: []string{"--name=a b"}, want: `--name: "a b": want printable UTF-8 without white space`},
	} {
		_, o := NewScheduler()
		err := load(t, o, c.file, c.text, c.env, c.flags...)
		var ce *Error
		if !errors.As(err, &ce) {
			t.Errorf("%s %q %v %v: got %v, want an error", c.file, c.text, c.env, c.flags, err)
			continue
		}
		got := err.Error()
		if c.file != "" {
			got = got[strings.LastIndex(got, "/"+c.file)+1:]
		}
		if !strings.HasPrefix(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestWorkerAndDevErrors(t *testing.T) {
	t.Parallel()
	for want, flags := range map[string][]string{
		"--job-output: want at least 1048576":                               {"--job-output=0"},
		"--job-output: \"1GB\": want a whole number":                        {"--job-output=1GB"},
		"--job-output-total: want at least job_output, which is 67108864":   {"--job-output-total=0"},
		"--job-output-total: want at least job_output, which is 2097152":    {"--job-output=2097152", "--job-output-total=2097151"},
		"--job-output-total: \"-1\": want a whole number":                   {"--job-output-total=-1"},
		"--job-output-total: \"9223372036854775808\": want a whole number":  {"--job-output-total=9223372036854775808"},
		"--strength: want a number above zero":                              {"--strength=0"},
		"--name: \"a b\": want printable UTF-8 without white space":         {"--name=a b"},
		"--labels: \"disk\": want name=value":                               {"--labels=disk"},
		"--labels: \"a=2\": want each name once":                            {"--labels=a=1,a=2"},
		"--capacity: cpus: \"x\": want a number, zero or more":              {"--capacity=cpus=x"},
		"--capacity: cpus: \"NaN\": want a number, zero or more":            {"--capacity=cpus=NaN"},
		"--schedulers: \"there\": want host:port":                           {"--schedulers=there"},
		"--schedulers: want at least one address":                           {"--schedulers="},
		"--http: \"[::]:80\": want a loopback address such as 127.0.0.1:80": {"--http=[::]:80"},
		"--exec: \"feed=\": want KIND=COMMAND":                              {"--exec=feed="},
	} {
		_, o := NewWorker()
		if err := load(t, o, "", "", nil, flags...); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", flags, err, want)
		}
	}
	for want, flags := range map[string][]string{
		"--workers: want 1 to 1000":                           {"--workers=0"},
		"--restart: \"often\": want never or ended or always": {"--restart=often"},
		"--tasks: open /not/there: no such file":              {"--tasks=/not/there"},
	} {
		_, o := NewDev()
		if err := load(t, o, "", "", nil, flags...); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", flags, err, want)
		}
	}
}

// TestTables: every option of every role has help and a flag, no name is there
// twice, and each field of the structs is some option's.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, role := range []func() (any, *Options){
		func() (any, *Options) { c, o := NewScheduler(); return c, o },
		func() (any, *Options) { c, o := NewWorker(); return c, o },
		func() (any, *Options) { c, o := NewDev(); return c, o },
	} {
		c, o := role()
		seen := map[string]bool{}
		for _, key := range o.keys() {
			if seen[key] {
				t.Errorf("%s: %s is there twice", o.Role(), key)
			}
			seen[key] = true
		}
		for _, opt := range o.list {
			if opt.help == "" && !opt.fileOnly {
				t.Errorf("%s: %s has no help", o.Role(), opt.name)
			}
		}
		// Some fields are no options: Scheduler.NoSync and AnyGateway, Dev.AnyHTTP, AnyGRPC, AnyGateway and ShowToken.
		alone := map[string]int{"scheduler": 2, "dev": 4}[o.Role()]
		if fields, options := countFields(reflect.TypeOf(c).Elem())-alone, len(o.list); fields != options {
			t.Errorf("%s: %d fields, %d options", o.Role(), fields, options)
		}
		if err := load(t, o, "", "", nil); err != nil {
			t.Errorf("%s: the defaults are wrong: %v", o.Role(), err)
		}
	}
}

func countFields(t reflect.Type) int {
	n := 0
	for i := range t.NumField() {
		if f := t.Field(i).Type; f.Kind() == reflect.Struct && f != reflect.TypeFor[placement.Budget]() {
			n += countFields(f)
		} else {
			n++
		}
	}
	return n
}

func TestHelpNamesAllThree(t *testing.T) {
	t.Parallel()
	_, o := NewScheduler()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.AddFlags(fs)
	for line := range strings.Lines(fs.FlagUsages()) {
		if !strings.Contains(line, "--") || !strings.Contains(line, "[ROTA_") {
			t.Errorf("%q does not name flag and variable", line)
		}
	}
	if want := "[ROTA_ETCD_CERT, etcd_cert]"; !strings.Contains(fs.FlagUsages(), want) {
		t.Errorf("help has no %s", want)
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	t.Parallel()
	secret := "hunter2"
	o := newOptions("test", nil, &option{name: "password", value: textValue(&secret, "TEXT"), help: "x", secret: true})
	for _, s := range o.Settings() {
		if strings.Contains(s.Text(), secret) {
			t.Errorf("%s: %s", s.Key, s.Text())
		}
	}
	_, o = NewScheduler()
	if err := load(t, o, "", "", nil, "--tasks-url=https://me:hunter2@example.com/tasks"); err != nil {
		t.Fatal(err)
	}
	for _, s := range o.Settings() {
		if strings.Contains(s.Text(), secret) {
			t.Errorf("%s: %s", s.Key, s.Text())
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add("a.toml", "name = 'x'\n[etcd]\nendpoints = ['a']\n[[x]]\ny = 1979-05-27\n")
	f.Add("a.yaml", "name: x\nlabels: {a: b}\n")
	f.Fuzz(func(t *testing.T, name, text string) {
		_, o := NewWorker()
		err := o.loadData(name, []byte(text))
		var ce *Error
		if err != nil && (!errors.As(err, &ce) || strings.Contains(strings.TrimPrefix(err.Error(), name), "\n")) {
			t.Fatalf("%q", err)
		}
	})
}
