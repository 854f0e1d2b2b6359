package config

import (
	"os"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/job/output"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/store"
)

// The addresses where things are by default.
const (
	DefaultHTTP = "127.0.0.1:3000"
	DefaultGRPC = "127.0.0.1:50000"
	// DefaultGateway is where functions are called.
	DefaultGateway = "127.0.0.1:9080"
)

// Log says what is logged, and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

func (l *Log) options() []*option {
	return []*option{
		{name: "log-level", value: oneOf(&l.Level, "debug", "info", "warn", "error"), help: "log what is at least this grave"},
		{name: "log-format", value: oneOf(&l.Format, "text", "json"), help: "how the log is written"},
	}
}

// Scheduler is the configuration of a scheduler.
type Scheduler struct {
	Name string // among the schedulers of the cluster

	HTTP, GRPC string // the addresses to listen on, host:port
	Gateway    string // where functions are called; empty: nowhere
	AnyGateway bool   // another port will do if that one is in use
	// AdvertiseHTTP and AdvertiseGRPC are where others reach them; empty: the same.
	AdvertiseHTTP, AdvertiseGRPC string
	// TLS serves gRPC, and HTTP off loopback, with the pair of PEM files.
	TLS              bool
	TLSCert, TLSKey  string
	TLSCA            string   // who may vouch for workers and other schedulers
	TLSRevoked       string   // a list of their certificates that are good no more
	Tokens           string   // a file of tokens
	Namespace        string   // what this cluster is
	OIDC             OIDC     // who else may vouch for callers
	Hosts            []string // names under which the HTTP API is asked for
	Etcd             []string // endpoints; none: the embedded one
	EtcdCert         string   // PEM files for the connection to etcd
	EtcdKey, EtcdCA  string
	EtcdUser         string
	EtcdPasswordFile string
	EtcdHistory      time.Duration
	DataDir          string // of the embedded etcd
	NoSync           bool   // do not wait for the disk: rota dev without a data directory
	Root             string // what the keys of the cluster begin with

	Lease       time.Duration // how long a worker may trust its grants unheard
	Interval    time.Duration // the longest time between two passes
	PassTimeout time.Duration // the most time a pass may take
	Debounce    time.Duration // how long changes are gathered before a pass
	MaxWorkers  int           // 0: no limit
	// At the first start, wait for so many workers or for so long.
	BarrierWorkers int
	BarrierWait    time.Duration
	MaxMoves       int           // under way at once
	SlowStart      time.Duration // of workers that join
	Placement      placement.Options

	TasksFile    string            // a list that is watched
	TasksURL     string            // a list that is polled
	TasksPoll    time.Duration     // how often
	TasksHeaders map[string]string // that its server wants
	// TasksTokenFile has a token for it, TasksCA who may vouch for it, PEM.
	TasksTokenFile, TasksCA string
	TasksColumns            map[string]string // taskfile.Options.Columns for both
	Log                     Log
}

// OIDC says whose JWTs are taken, and for what.
type OIDC struct {
	Issuer, Audience     string
	Keys                 []string // PEM files; none: discovery
	RoleClaim, NameClaim string
	Roles                map[string]string // of a claim's value
	NamespaceClaim       string
	KindClaim            string
}

// NewScheduler returns the defaults and the table of options that fills them.
func NewScheduler() (*Scheduler, *Options) {
	c := &Scheduler{
		HTTP: DefaultHTTP, GRPC: DefaultGRPC, Gateway: DefaultGateway, DataDir: "rota-data", Root: store.DefaultRoot, Namespace: auth.DefaultNamespace,
		Lease: 5 * time.Second, Interval: time.Minute, PassTimeout: 30 * time.Second, Debounce: 50 * time.Millisecond,
		BarrierWait: 5 * time.Second, MaxMoves: 1000, TasksPoll: 30 * time.Second, EtcdHistory: 10 * time.Minute,
		Log: Log{Level: "info", Format: "text"},
	}
	list := []*option{
		{name: "name", value: textValue(&c.Name, "NAME"), help: "this scheduler's name, its own in the cluster", def: "the host's and the gRPC port"},
		{name: "http", value: textValue(&c.HTTP, "ADDR"), help: "listen here for the HTTP API and the console", aliases: []string{"http_server_addr"}},
		{name: "grpc", value: textValue(&c.GRPC, "ADDR"), help: "listen here for workers and the gRPC API", aliases: []string{"grpc_server_addr"}},
		{name: "gateway", value: textValue(&c.Gateway, "ADDR"), help: "listen here for calls of functions, off loopback with --tls and --tokens; empty for no gateway"},
		{name: "tls", value: yesValue(&c.TLS), help: "serve gRPC with TLS", aliases: []string{"grpc_server_use_tls"}},
		{name: "tls-cert", value: textValue(&c.TLSCert, "FILE"), help: "the certificate, PEM", aliases: []string{"grpc_server_crt_file"}},
		{name: "tls-key", value: textValue(&c.TLSKey, "FILE"), help: "its key, PEM", aliases: []string{"grpc_server_key_file"}},
		{name: "tls-ca", value: textValue(&c.TLSCA, "FILE"), help: "who may vouch for workers and other schedulers, PEM"},
		{name: "tls-revoked", value: textValue(&c.TLSRevoked, "FILE"), help: "list of revoked certificates (rota cert revoke), followed: their connections are closed within seconds"},
		{name: "advertise-http", value: textValue(&c.AdvertiseHTTP, "ADDR"), help: "where others reach the HTTP API, if not where it listens"},
		{name: "advertise-grpc", value: textValue(&c.AdvertiseGRPC, "ADDR"), help: "where others reach gRPC, if not where it listens"},
		{name: "hosts", value: listValue(&c.Hosts, "NAME,..."), help: "other names under which the HTTP API may be asked for"},
		{name: "tokens", value: textValue(&c.Tokens, "FILE"), help: "the tokens that are good, as rota token create writes them; without it whoever is on this machine is an admin"},
		{name: "namespace", value: textValue(&c.Namespace, "NAME"), help: "the namespace that this cluster is: part of its keys in etcd; tokens may be for some namespaces only"},
		{name: "oidc-issuer", value: textValue(&c.OIDC.Issuer, "URL"), help: "take JWTs of this issuer"},
		{name: "oidc-audience", value: textValue(&c.OIDC.Audience, "NAME"), help: "that are meant for this audience"},
		{name: "oidc-keys", value: listValue(&c.OIDC.Keys, "FILE,..."), help: "and signed by one of these keys, PEM; without it the issuer is asked"},
		{name: "oidc-role-claim", value: textValue(&c.OIDC.RoleClaim, "NAME"), help: "the claim that says the role", def: "role"},
		{name: "oidc-roles", value: pairsValue(&c.OIDC.Roles, "VALUE=ROLE,...", ","), help: "what the claim's values stand for; else the roles' own names"},
		{name: "oidc-name-claim", value: textValue(&c.OIDC.NameClaim, "NAME"), help: "the claim that names the person", def: "email, then sub"},
		{name: "oidc-namespace-claim", value: textValue(&c.OIDC.NamespaceClaim, "NAME"), help: "the claim that lists namespaces; else all"},
		{name: "oidc-kind-claim", value: textValue(&c.OIDC.KindClaim, "NAME"), help: "the claim that lists the kinds of task to declare; else all that the role may"},
		{name: "etcd", value: listValue(&c.Etcd, "ENDPOINT,..."), help: "use the etcd that is there; else one is embedded", aliases: []string{"etcd_endpoints"}},
		{name: "etcd-cert", value: textValue(&c.EtcdCert, "FILE"), help: "the certificate to show to etcd, PEM"},
		{name: "etcd-key", value: textValue(&c.EtcdKey, "FILE"), help: "its key, PEM"},
		{name: "etcd-ca", value: textValue(&c.EtcdCA, "FILE"), help: "who may vouch for etcd, PEM"},
		{name: "etcd-user", value: textValue(&c.EtcdUser, "NAME"), help: "the user to be at etcd"},
		{name: "etcd-history", value: durationValue(&c.EtcdHistory), help: "how much history of that etcd to keep: older is compacted, for all its users; 0 leaves it alone"},
		{name: "etcd-password-file", value: textValue(&c.EtcdPasswordFile, "FILE"), help: "a file with that user's password"},
		{name: "data-dir", value: textValue(&c.DataDir, "DIR"), help: "where the embedded etcd keeps its data"},
		{name: "root", value: textValue(&c.Root, "NAME"), help: "the cluster's name: what its keys in etcd begin with"},
		{name: "lease", value: durationValue(&c.Lease), help: "how long a worker may trust its grants without hearing from a scheduler"},
		{name: "interval", value: durationValue(&c.Interval), help: "plan at least this often"},
		{name: "pass-timeout", value: durationValue(&c.PassTimeout), help: "the most time a pass may take"},
		{name: "debounce", value: durationValue(&c.Debounce), help: "gather changes for so long before a pass"},
		{name: "max-workers", value: countValue(&c.MaxWorkers), help: "refuse workers beyond this number; 0 for no limit"},
		{name: "barrier-workers", value: countValue(&c.BarrierWorkers), help: "before the first plan wait for so many workers"},
		{name: "barrier-wait", value: durationValue(&c.BarrierWait), help: "but no longer than this"},
		{name: "max-moves", value: countValue(&c.MaxMoves), help: "the most moves under way at once"},
		{name: "slow-start", value: durationValue(&c.SlowStart), help: "raise a worker that joins to its full share over so long; 0 at once"},
		{name: "churn", value: countValue(&c.Placement.MaxMoves), help: "the most moves that balance may choose in one pass; 0 for no limit"},
		{name: "churn-per-worker", value: countValue(&c.Placement.MaxMovesPerWorker), help: "of these, the most to and from one worker; 0 for no limit"},
		{name: "hysteresis", value: amountValue(&c.Placement.Hysteresis), help: "move nothing that gains less than this part of the mean"},
		{name: "balance-groups", value: yesValue(&c.Placement.BalanceGroups), help: "also even out each group over the workers"},
		{name: "group-budget", value: budgetValue(&c.Placement.GroupBudget), help: "the most running instances of one group to take away in one pass"},
		{name: "zone-budget", value: budgetValue(&c.Placement.ZoneBudget), help: "the most running instances of one zone to take away in one pass"},
		{name: "min-workers", value: countValue(&c.Placement.MinWorkers), help: "move and place nothing with fewer workers: the brake against mass failure"},
		{name: "freeze", value: yesValue(&c.Placement.Freeze), help: "leave everything that is somewhere where it is"},
		{name: "load-blend", value: amountValue(&c.Placement.LoadBlend), help: "the part of measured load in what an instance counts for; 0 for one half"},
		{name: "load-band", value: amountValue(&c.Placement.LoadBand), help: "how far, in parts of the mean, workers may differ before measured load moves anything; 0 for 0.1"},
		{name: "tasks-file", value: textValue(&c.TasksFile, "FILE"), help: "take tasks from this file, and again when it changes"},
		{name: "tasks-url", value: textValue(&c.TasksURL, "URL"), help: "take tasks from this address"},
		{name: "tasks-headers", value: pairsValue(&c.TasksHeaders, "NAME=VALUE,...", ","), help: "HTTP headers to send along; secrets belong in a configuration file or in --tasks-token-file", secret: true},
		{name: "tasks-token-file", value: textValue(&c.TasksTokenFile, "FILE"), help: "a file with a token that is sent as Authorization: Bearer, over TLS or to this machine"},
		{name: "tasks-ca", value: textValue(&c.TasksCA, "FILE"), help: "who may vouch for that address, PEM; else the system's"},
		{name: "tasks-poll", value: durationValue(&c.TasksPoll), help: "ask that address so often"},
		{name: "tasks-columns", value: pairsValue(&c.TasksColumns, "FIELD=TEXT,...", ","), help: "how fields are made of a CSV's columns: 'id={a}-{b},weight={n}'"},
	}
	return c, newOptions("scheduler", c.validate, append(list, c.Log.options()...)...)
}

// Worker is the configuration of a worker.
type Worker struct {
	Name         string   // stable: what it comes back as after a restart
	Schedulers   []string // gRPC addresses, tried in order
	TLSCA        string   // who may vouch for them, PEM; empty: no TLS
	TLSRevoked   string   // a list of their certificates that are good no more
	TLSCert      string   // what this worker shows them
	TLSKey       string
	Zone         string
	Labels       map[string]string
	Kinds        []string // of task that it takes; none: those it has a function for
	Capacity     map[string]float64
	MaxTasks     int     // 0: no limit
	Strength     float64 // its share of load relative to others
	RestartGrace time.Duration
	Exec         map[string]string        // kind → command line, split into words without a shell
	ExecGrace    map[string]time.Duration // kind → how long its processes may take to end
	ExecDirs     []string                 // that {NAME:path} of Exec is held to; the first is the working directory
	// NewPrivileges lets what it runs, of jobs and Exec, gain privileges by sudo and the like.
	NewPrivileges bool
	HTTP          string            // the address of /readyz; empty: none
	Calls         string            // where it answers calls of its functions; empty: a port on loopback
	Functions     map[string]string // function → URL of the server that answers it
	Demo          bool              // offer the built-in function for tasks of the default kind
	Supervise     bool              // started again whenever its process ends by itself
	Log           Log

	Job JobRules
	// Jobs is the [grpc_server] of an older worker's file: where it serves jobs.
	Jobs JobServer
}

// JobRules say which jobs a worker runs, and how. The zero value is none.
type JobRules struct {
	Allow   []string // command lines with parameters, or "any"
	Dirs    []string // in and below which jobs may work
	Env     []string // variables that jobs may set
	User    string
	Slots   int
	Timeout time.Duration
	Data    string // where outputs are kept; empty: rota-data/jobs-NAME
	Output  int    // bytes of output kept of one attempt
	// OutputTotal is the bytes of output kept of all attempts together.
	OutputTotal int
	Memory      int // bytes
	CPUs        float64
	Processes   int
	// AddressSpace, in bytes, and OpenFiles are of each process, UserProcesses of
	// all of User.
	AddressSpace, UserProcesses, OpenFiles int
	Cgroup                                 string
}

// JobServer says where a worker answers the calls of the job protocol.
type JobServer struct {
	Addr              string // empty: nowhere
	TLS               bool
	CertFile, KeyFile string // PEM
}

// NewWorker returns the defaults and the table of options that fills them.
func NewWorker() (*Worker, *Options) {
	c := &Worker{
		Name: hostName(), Schedulers: []string{DefaultGRPC}, Strength: 1,
		Job: JobRules{Slots: 256, Output: output.DefaultMaxBytes, OutputTotal: output.DefaultMaxTotal},
		Log: Log{Level: "info", Format: "text"},
	}
	list := []*option{
		{name: "name", value: textValue(&c.Name, "NAME"), help: "this worker's name, the same after each restart", def: "the host's"},
		{name: "schedulers", value: listValue(&c.Schedulers, "ADDR,..."), help: "the schedulers' gRPC addresses, tried in order", aliases: []string{"scheduler_addr"}},
		{name: "tls-ca", value: textValue(&c.TLSCA, "FILE"), help: "who may vouch for the schedulers, PEM; without it there is no TLS"},
		{name: "tls-revoked", value: textValue(&c.TLSRevoked, "FILE"), help: "list of revoked certificates (rota cert revoke), followed: their connections are closed within seconds"},
		{name: "tls-cert", value: textValue(&c.TLSCert, "FILE"), help: "this worker's certificate, bound to its name, PEM"},
		{name: "tls-key", value: textValue(&c.TLSKey, "FILE"), help: "its key, PEM"},
		{name: "job", value: linesValue(&c.Job.Allow, "COMMAND"), help: "run jobs with this command: words and {name:TYPE}, as 'bash {script:path}'; or any; may be repeated; without it none"},
		{name: "job-dirs", value: listValue(&c.Job.Dirs, "DIR,..."), help: "jobs work, and name files, in and below these only"},
		{name: "job-env", value: listValue(&c.Job.Env, "NAME,..."), help: "the variables that jobs may set; * for all"},
		{name: "job-user", value: textValue(&c.Job.User, "NAME"), help: "run jobs as this user", def: "the worker's own"},
		{name: "job-slots", value: countValue(&c.Job.Slots), help: "run so many jobs at once"},
		{name: "job-timeout", value: durationValue(&c.Job.Timeout), help: "end jobs after this time, whatever they ask for; 0 for no limit"},
		{name: "job-data", value: textValue(&c.Job.Data, "DIR"), help: "keep outputs of jobs here", def: "rota-data/jobs-NAME"},
		{name: "job-output", value: countValue(&c.Job.Output), help: "keep so many bytes of a job's output, the newest"},
		{name: "job-output-total", value: countValue(&c.Job.OutputTotal), help: "keep so many bytes of output of all jobs, running and ended, those of earlier runs included; the oldest ended output goes first"},
		{name: "job-memory", value: countValue(&c.Job.Memory), help: "bytes of memory of a job; needs --job-cgroup; 0 for no limit"},
		{name: "job-cpus", value: amountValue(&c.Job.CPUs), help: "processors' worth of time of a job; needs --job-cgroup; 0 for no limit"},
		{name: "job-processes", value: countValue(&c.Job.Processes), help: "processes and threads of a job; needs --job-cgroup; 0 for no limit"},
		{name: "job-address-space", value: countValue(&c.Job.AddressSpace), help: "bytes that each process of a job may map (RLIMIT_AS); 0 for no limit"},
		{name: "job-user-processes", value: countValue(&c.Job.UserProcesses), help: "processes and threads that --job-user may have, of all jobs and besides (RLIMIT_NPROC); 0 for no limit"},
		{name: "job-open-files", value: countValue(&c.Job.OpenFiles), help: "the open files of a process of a job; 0 for no limit"},
		{name: "job-cgroup", value: textValue(&c.Job.Cgroup, "DIR"), help: "a directory of cgroup v2, delegated to the worker, to keep the limits with"},
		{name: "zone", value: textValue(&c.Zone, "NAME"), help: "where failures are shared"},
		{name: "labels", value: pairsValue(&c.Labels, "K=V,...", ","), help: "facts that rules can ask for"},
		{name: "kinds", value: listValue(&c.Kinds, "KIND,..."), help: "the kinds of task to take; else all that it can"},
		{name: "capacity", value: amountsValue(&c.Capacity, "K=N,..."), help: "what it has of each resource"},
		{name: "max-tasks", value: countValue(&c.MaxTasks), help: "the most instances it takes; 0 for no limit"},
		{name: "strength", value: amountValue(&c.Strength), help: "its share of load relative to others"},
		{name: "restart-grace", value: durationValue(&c.RestartGrace), help: "how long its tasks wait for its return, after its death or an orderly stop, before they move"},
		{name: "exec", value: pairsValue(&c.Exec, "KIND=COMMAND", "\n"), help: "run tasks of this kind as processes, as 'feed --symbol {ID:word}'; types are those of --job, {{.ID}} is a template that takes words; may be repeated"},
		{name: "exec-dirs", value: listValue(&c.ExecDirs, "DIR,..."), help: "{ID:path} and the like name files in and below these only; such tasks work in the first"},
		{name: "exec-grace", value: durationsValue(&c.ExecGrace, "KIND=DURATION,..."), help: "time that processes of this kind have between SIGTERM and SIGKILL", def: "10s each"},
		{name: "new-privileges", value: yesValue(&c.NewPrivileges), help: "let jobs, and processes of --exec, gain privileges by sudo and the like; else they run with no_new_privs"},
		{name: "http", value: textValue(&c.HTTP, "ADDR"), help: "answer /readyz here; else nowhere"},
		{name: "calls", value: textValue(&c.Calls, "ADDR"), help: "answer calls of functions here, on other machines' calls with certificates only; else on a port of loopback"},
		{name: "function", value: pairsValue(&c.Functions, "NAME=URL", "\n"), help: "offer this function, answered by a server that is there; may be repeated"},
		{name: "demo", value: yesValue(&c.Demo), help: "run tasks of kind \"task\" by a built-in function that does a little work"},
		{name: "supervise", value: yesValue(&c.Supervise), help: "start the worker process again whenever it ends by itself"},
		{name: "grpc-server-addr", value: textValue(&c.Jobs.Addr, "ADDR"), fileOnly: true},
		{name: "grpc-server-use-tls", value: yesValue(&c.Jobs.TLS), fileOnly: true},
		{name: "grpc-server-crt-file", value: textValue(&c.Jobs.CertFile, "FILE"), fileOnly: true},
		{name: "grpc-server-key-file", value: textValue(&c.Jobs.KeyFile, "FILE"), fileOnly: true},
	}
	return c, newOptions("worker", c.validate, append(list, c.Log.options()...)...)
}

// Dev is the configuration of a whole cluster on one machine, to try things.
type Dev struct {
	Workers      int
	Tasks        string            // a list; empty: the flight routes
	TasksColumns map[string]string // taskfile.Options.Columns
	DataDir      string            // empty: nothing is kept
	Restart      string            // never, ended or always: which workers that died are started again
	HTTP, GRPC   string
	Gateway      string
	ShowToken    bool // what is printed is read by this user only
	Insecure     bool // no token and no TLS: whoever is on this machine is an admin
	AnyHTTP      bool // another port will do if that one is in use
	AnyGRPC      bool
	AnyGateway   bool
	Lease        time.Duration
	Log          Log
}

// NewDev returns the defaults and the table of options that fills them.
func NewDev() (*Dev, *Options) {
	c := &Dev{
		Workers: 3, Restart: "ended", HTTP: DefaultHTTP, GRPC: DefaultGRPC, Gateway: DefaultGateway, Lease: 5 * time.Second,
		Log: Log{Level: "warn", Format: "text"},
	}
	list := []*option{
		{name: "workers", value: countValue(&c.Workers), help: "how many workers to start"},
		{name: "tasks", value: textValue(&c.Tasks, "FILE"), help: "the tasks to run, YAML, JSON, JSON lines or CSV; else 5,366 flight routes"},
		{name: "tasks-columns", value: pairsValue(&c.TasksColumns, "FIELD=TEXT,...", ","), help: "how fields are made of a CSV's columns: 'id={a}-{b},weight={n}'"},
		{name: "data-dir", value: textValue(&c.DataDir, "DIR"), help: "keep the state here; else nothing stays"},
		{name: "insecure", value: yesValue(&c.Insecure), help: "ask for no token and use no TLS: every user of this machine may do everything"},
		{name: "restart", value: oneOf(&c.Restart, "never", "ended", "always"), help: "which workers that died are started again: those that ended by themselves (not by a signal), none or all"},
		{name: "http", value: textValue(&c.HTTP, "ADDR"), help: "listen here for the HTTP API and the console"},
		{name: "grpc", value: textValue(&c.GRPC, "ADDR"), help: "listen here for workers and the gRPC API"},
		{name: "gateway", value: textValue(&c.Gateway, "ADDR"), help: "listen here for calls of functions; empty for no gateway"},
		{name: "lease", value: durationValue(&c.Lease), help: "how long a worker may trust its grants without hearing from a scheduler"},
	}
	return c, newOptions("dev", c.validate, append(list, c.Log.options()...)...)
}

// hostName is a name that is the same after a restart.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}
