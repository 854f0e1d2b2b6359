package config

import (
	"net"
	"os"
	"strings"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/cmd/rota/internal/otlp"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/job/output"
	"github.com/rota-project/rota/internal/listener"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
)

// defaultHTTP is where the HTTP API and the console are by default.
func defaultHTTP() string { return net.JoinHostPort(listener.Loopback(), "3000") }

// DefaultGRPC is where the gRPC API is by default.
func DefaultGRPC() string { return net.JoinHostPort(listener.Loopback(), "50000") }

// defaultGateway is where functions are called by default.
func defaultGateway() string { return net.JoinHostPort(listener.Loopback(), "9080") }

// Log says what is logged, and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

func (l *Log) options() []*option {
	return []*option{
		{name: "log-level", value: oneOf(&l.Level, "debug", "info", "warn", "error"), help: "minimum level to log"},
		{name: "log-format", value: oneOf(&l.Format, "text", "json"), help: "format of the log"},
	}
}

// Trace says which spans are sent, and where to.
type Trace = otlp.Config

func traceOptions(t *Trace) []*option {
	var part float64
	sample := amountValue(&part)
	set := sample.set
	sample.set = func(w []string) error { t.Sample = &part; return set(w) }
	sample.show = func() any {
		if t.Sample == nil {
			return ""
		}
		return part
	}
	return []*option{
		{name: "otlp-endpoint", value: textValue(&t.Endpoint, "URL"), help: "URL of the OTLP trace collector, such as http://localhost:4317; if unset, OTEL_EXPORTER_OTLP_ENDPOINT; if both are unset, tracing is off"},
		{name: "otlp-protocol", value: oneOf(&t.Protocol, otlp.GRPC, otlp.HTTP), help: "protocol of the collector", def: "OTEL_EXPORTER_OTLP_PROTOCOL, or grpc"},
		{name: "otlp-headers-file", value: textValue(&t.HeadersFile, "FILE"), help: "file of HTTP headers for --otlp-endpoint, one \"Name: value\" per line; sent only over TLS or to this machine"},
		{name: "trace-sample", value: sample, help: "share of traces to record, 0 to 1", def: "OTEL_TRACES_SAMPLER, or 1"},
		{name: "trace-callers", value: yesValue(&t.Callers), help: "record a trace if the caller's traceparent asks for it, whatever --trace-sample says"},
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
	TLSCA            string                  // CA bundle for workers and other schedulers
	TLSRevoked       string                  // a list of their certificates that are good no more
	Tokens           string                  // a file of tokens
	Namespace        string                  // what this cluster is
	Engines          []string                // that may start the workers of pools
	Kubernetes       engine.KubernetesConfig // of the engine kubernetes
	NomadTokenFile   string                  // of the engine nomad
	Authority        string                  // the directory of the authority that signs their certificates
	OIDC             OIDC                    // who else may vouch for callers
	ClientRoles      map[string]string       // of client certificates, by name
	SessionLife      time.Duration           // of people signed in at the console
	Hosts            []string                // names under which the HTTP API is asked for
	Etcd             []string                // endpoints; none: the embedded one
	EtcdCert         string                  // PEM files for the connection to etcd
	EtcdKey, EtcdCA  string
	EtcdUser         string
	EtcdPasswordFile string
	EtcdHistory      time.Duration
	DataDir          string // of the embedded etcd
	// Cluster are the schedulers whose embedded etcds keep the store together: the
	// addresses of their peer ports by name. None: the embedded one is alone.
	Cluster      map[string]string
	Peer         string // listen address of the peer port; empty: the one of Cluster
	Join         bool   // ask the others to let it in
	PeerInsecure bool   // take peers off loopback without TLS
	NoSync       bool   // do not wait for the disk: rota dev without a data directory
	Root         string // what the keys of the cluster begin with

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
	SuspectAfter   int           // deaths of workers with a task on board; 0: never
	EventsKeep     int           // of what happened; 0: nothing is recorded
	EventsAge      time.Duration // for how long
	Placement      placement.Options

	TasksFile string        // a list that is watched
	TasksRest time.Duration // how long it has to be still before it is taken
	TasksURL  string        // a list that is polled
	TasksPoll time.Duration // how often
	// What its server wants of those who ask, see source.Access.
	TasksHeadersFile, TasksTokenFile, TasksCA, TasksCert, TasksKey string
	TasksColumns                                                   map[string]string // taskfile.Options.Columns for both
	TasksHold                                                      float64           // the part of a list above which a removal waits
	TasksHoldFor                                                   time.Duration     // until it is confirmed, or for so long
	Log                                                            Log
	Trace                                                          Trace
}

// OIDC says whose JWTs are taken, and for what.
type OIDC struct {
	Issuer, Audience     string
	Keys                 []string // PEM files; none: discovery
	RoleClaim, NameClaim string
	Roles                map[string]string // of a claim's value
	NamespaceClaim       string
	KindClaim            string
	// Of people who sign in at the issuer, for the console.
	ClientID, ClientSecretFile, RedirectURL string
}

// NewScheduler returns the defaults and the table of options that fills them.
func NewScheduler() (*Scheduler, *Options) {
	def := scheduler.Defaults()
	c := &Scheduler{
		HTTP: defaultHTTP(), GRPC: DefaultGRPC(), Gateway: defaultGateway(), DataDir: "rota-data", Root: store.DefaultRoot, Namespace: auth.DefaultNamespace,
		Lease: def.Lease, Interval: def.Interval, PassTimeout: def.Timeout, Debounce: def.Debounce, BarrierWait: def.BarrierWait,
		MaxMoves: def.Moves.InAll, TasksHold: def.Hold, TasksHoldFor: def.HoldFor, SuspectAfter: def.SuspectAfter, EventsKeep: def.Events.Keep, EventsAge: def.Events.Age,
		TasksRest: source.Rest, TasksPoll: 30 * time.Second, EtcdHistory: 10 * time.Minute, SessionLife: 12 * time.Hour,
		Log: Log{Level: "info", Format: "text"},
	}
	list := []*option{
		{name: "name", value: textValue(&c.Name, "NAME"), help: "name of this scheduler, unique in the cluster", def: "the host's and the gRPC port"},
		{name: "http", value: textValue(&c.HTTP, "ADDR"), help: "listen address of the HTTP API and the console", aliases: []string{"http_server_addr"}},
		{name: "grpc", value: textValue(&c.GRPC, "ADDR"), help: "listen address for workers and the gRPC API", aliases: []string{"grpc_server_addr"}},
		{name: "gateway", value: textValue(&c.Gateway, "ADDR"), help: "listen address of the gateway for function calls; beyond loopback it needs --tls and --tokens; empty disables it"},
		{name: "tls", value: yesValue(&c.TLS), help: "serve gRPC with TLS", aliases: []string{"grpc_server_use_tls"}},
		{name: "tls-cert", value: textValue(&c.TLSCert, "FILE"), help: "server certificate (PEM)", aliases: []string{"grpc_server_crt_file"}},
		{name: "tls-key", value: textValue(&c.TLSKey, "FILE"), help: "private key of --tls-cert (PEM)", aliases: []string{"grpc_server_key_file"}},
		{name: "tls-ca", value: textValue(&c.TLSCA, "FILE"), help: "CA bundle that signs the certificates of workers and other schedulers (PEM)"},
		{name: "tls-revoked", value: textValue(&c.TLSRevoked, "FILE"), help: "revocation list (rota cert revoke); when it changes, connections of revoked certificates are closed within seconds"},
		{name: "advertise-http", value: textValue(&c.AdvertiseHTTP, "ADDR"), help: "HTTP address to advertise, if not the listen address"},
		{name: "advertise-grpc", value: textValue(&c.AdvertiseGRPC, "ADDR"), help: "gRPC address to advertise, if not the listen address"},
		{name: "hosts", value: listValue(&c.Hosts, "NAME,..."), help: "additional host names under which the HTTP API may be reached"},
		{name: "tokens", value: textValue(&c.Tokens, "FILE"), help: "file of valid tokens (rota token create); if unset, every local user is an admin"},
		{name: "namespace", value: textValue(&c.Namespace, "NAME"), help: "namespace of this cluster; its keys in etcd contain it, and tokens can be limited to it"},
		{name: "engines", value: listValue(&c.Engines, "ENGINE,..."), help: "engines that may start workers for pools: " + strings.Join(engine.Names(), ", ") + "; none by default, as whoever may apply a pool can run programs through them"},
		{name: "kubeconfig", value: textValue(&c.Kubernetes.Kubeconfig, "FILE"), help: "kubeconfig file for the engine kubernetes", def: "KUBECONFIG, ~/.kube/config, or the account of this pod"},
		{name: "kube-context", value: textValue(&c.Kubernetes.Context, "NAME"), help: "context in the kubeconfig file", def: "the current one"},
		{name: "kube-namespaces", value: listValue(&c.Kubernetes.Namespaces, "NAME,..."), help: "Kubernetes namespaces that pools may use; a pool that names none gets the first", def: "that of the context or of this pod"},
		{name: "nomad-token-file", value: textValue(&c.NomadTokenFile, "FILE"), help: "file with the ACL token for the engine nomad; if unset, NOMAD_TOKEN"},
		{name: "authority", value: textValue(&c.Authority, "DIR"), help: "directory of the certificate authority (rota cert init) that signs certificates of pool workers; it must hold the key"},
		{name: "oidc-issuer", value: textValue(&c.OIDC.Issuer, "URL"), help: "OIDC issuer whose JWTs are accepted"},
		{name: "oidc-audience", value: textValue(&c.OIDC.Audience, "NAME"), help: "required audience of JWTs"},
		{name: "oidc-keys", value: listValue(&c.OIDC.Keys, "FILE,..."), help: "public keys that verify JWTs (PEM); if unset, they are fetched from the issuer"},
		{name: "oidc-role-claim", value: textValue(&c.OIDC.RoleClaim, "NAME"), help: "claim with the role", def: "role"},
		{name: "oidc-roles", value: pairsValue(&c.OIDC.Roles, "VALUE=ROLE,...", ","), help: "mapping of role claim values to roles; if unset, the value must be a role's name"},
		{name: "oidc-name-claim", value: textValue(&c.OIDC.NameClaim, "NAME"), help: "claim with the caller's name", def: "email, then sub"},
		{name: "oidc-namespace-claim", value: textValue(&c.OIDC.NamespaceClaim, "NAME"), help: "claim that lists the allowed namespaces; if unset, all are allowed"},
		{name: "oidc-kind-claim", value: textValue(&c.OIDC.KindClaim, "NAME"), help: "claim that lists the kinds of task that the caller may declare; if unset, all that the role allows"},
		{name: "oidc-client-id", value: textValue(&c.OIDC.ClientID, "NAME"), help: "client ID of the console; lets people sign in at the issuer (authorization code flow with PKCE)"},
		{name: "oidc-client-secret-file", value: textValue(&c.OIDC.ClientSecretFile, "FILE"), help: "file with the client secret of --oidc-client-id; if unset, the client is public"},
		{name: "oidc-redirect-url", value: textValue(&c.OIDC.RedirectURL, "URL"), help: "redirect URL after sign-in: the console's address and /v1/signin/oidc/callback"},
		{name: "client-roles", value: pairsValue(&c.ClientRoles, "NAME=ROLE,...", ","), help: "roles of client certificates by common name (rota cert issue client NAME); other certificates have no role"},
		{name: "session-life", value: durationValue(&c.SessionLife), help: "maximum life of a console sign-in; it ends earlier if the credentials used for it do"},
		{name: "etcd", value: listValue(&c.Etcd, "ENDPOINT,..."), help: "endpoints of an etcd cluster; if unset, etcd is embedded", aliases: []string{"etcd_endpoints"}},
		{name: "etcd-cert", value: textValue(&c.EtcdCert, "FILE"), help: "client certificate for etcd (PEM)"},
		{name: "etcd-key", value: textValue(&c.EtcdKey, "FILE"), help: "private key of --etcd-cert (PEM)"},
		{name: "etcd-ca", value: textValue(&c.EtcdCA, "FILE"), help: "CA bundle that signs etcd's certificates (PEM)"},
		{name: "etcd-user", value: textValue(&c.EtcdUser, "NAME"), help: "etcd user"},
		{name: "etcd-history", value: durationValue(&c.EtcdHistory), help: "history to keep in --etcd; older revisions are compacted for all users of that etcd; 0 disables compaction"},
		{name: "etcd-password-file", value: textValue(&c.EtcdPasswordFile, "FILE"), help: "file with the password of --etcd-user"},
		{name: "data-dir", value: textValue(&c.DataDir, "DIR"), help: "data directory of the embedded etcd"},
		{name: "cluster", value: pairsValue(&c.Cluster, "NAME=HOST:PORT,...", ","), help: "members of a cluster with embedded etcds: the names and peer addresses of three or five schedulers, of which --name is one"},
		{name: "join", value: yesValue(&c.Join), help: "join an existing cluster as a new member; --cluster lists this scheduler and at least one member; no effect if the data directory is not empty"},
		{name: "peer", value: textValue(&c.Peer, "ADDR"), help: "listen address of the peer port, if it differs from this scheduler's address in --cluster"},
		{name: "peer-insecure", value: yesValue(&c.PeerInsecure), help: "allow a peer port beyond loopback without TLS; anyone who reaches it can read and change everything"},
		{name: "root", value: textValue(&c.Root, "NAME"), help: "prefix of the cluster's keys in etcd"},
		{name: "lease", value: durationValue(&c.Lease), help: "lease: time for which a worker's grants stay valid without word from a scheduler"},
		{name: "interval", value: durationValue(&c.Interval), help: "longest time between two planning passes"},
		{name: "pass-timeout", value: durationValue(&c.PassTimeout), help: "time limit of a planning pass"},
		{name: "debounce", value: durationValue(&c.Debounce), help: "time to wait for further changes before a planning pass"},
		{name: "max-workers", value: countValue(&c.MaxWorkers), help: "maximum number of live workers; a further one waits up to 30 s for a free place; 0 for no limit"},
		{name: "barrier-workers", value: countValue(&c.BarrierWorkers), help: "number of workers to wait for before the first planning pass"},
		{name: "barrier-wait", value: durationValue(&c.BarrierWait), help: "longest wait for --barrier-workers"},
		{name: "max-moves", value: countValue(&c.MaxMoves), help: "maximum number of moves in progress"},
		{name: "slow-start", value: durationValue(&c.SlowStart), help: "ramp-up time of a new worker to its full share; 0 for none"},
		{name: "suspect-after", value: countValue(&c.SuspectAfter), help: "number of workers that die within 10 minutes while they run a task, after which the task is suspected of killing them; 0 disables it"},
		{name: "events-keep", value: countValue(&c.EventsKeep), help: "number of events to keep about tasks and jobs, and as many about everything else (rota events); 0 disables recording"},
		{name: "events-age", value: durationValue(&c.EventsAge), help: "maximum age of an event"},
		{name: "churn", value: countValue(&c.Placement.MaxMoves), help: "maximum number of balancing moves per pass; 0 for no limit"},
		{name: "churn-per-worker", value: countValue(&c.Placement.MaxMovesPerWorker), help: "maximum number of moves to and from one worker per pass; 0 for no limit"},
		{name: "hysteresis", value: amountValue(&c.Placement.Hysteresis), help: "minimum gain that justifies a move, as a fraction of the mean load"},
		{name: "balance-groups", value: yesValue(&c.Placement.BalanceGroups), help: "also spread each group evenly over the workers"},
		{name: "group-budget", value: budgetValue(&c.Placement.GroupBudget), help: "maximum number of a group's running instances to move or stop per pass"},
		{name: "zone-budget", value: budgetValue(&c.Placement.ZoneBudget), help: "maximum number of a zone's running instances to move or stop per pass"},
		{name: "min-workers", value: countValue(&c.Placement.MinWorkers), help: "minimum number of workers; below it nothing is placed or moved, as a brake in a mass failure"},
		{name: "freeze", value: yesValue(&c.Placement.Freeze), help: "keep every placed instance where it is"},
		{name: "load-blend", value: amountValue(&c.Placement.LoadBlend), help: "share of measured load in the weight of an instance; 0 for 0.5"},
		{name: "load-band", value: amountValue(&c.Placement.LoadBand), help: "deviation from the mean load, as a fraction, below which measured load causes no moves; 0 for 0.1"},
		{name: "tasks-file", value: textValue(&c.TasksFile, "FILE"), help: "file of tasks to run; reloaded when it changes"},
		{name: "tasks-rest", value: durationValue(&c.TasksRest), help: "time for which --tasks-file must be unchanged before it is read"},
		{name: "tasks-url", value: textValue(&c.TasksURL, "URL"), help: "URL of a list of tasks to run"},
		{name: "tasks-poll", value: durationValue(&c.TasksPoll), help: "poll interval of --tasks-url"},
		{name: "tasks-headers-file", value: textValue(&c.TasksHeadersFile, "FILE"), help: "file of HTTP headers for --tasks-url, one \"Name: value\" per line; read for each request, sent only over TLS or to this machine"},
		{name: "tasks-token-file", value: textValue(&c.TasksTokenFile, "FILE"), help: "file with a bearer token for --tasks-url; read for each request, sent only over TLS or to this machine"},
		{name: "tasks-ca", value: textValue(&c.TasksCA, "FILE"), help: "CA bundle that signs the certificate of --tasks-url (PEM); if unset, the system's"},
		{name: "tasks-cert", value: textValue(&c.TasksCert, "FILE"), help: "client certificate for --tasks-url (PEM)"},
		{name: "tasks-key", value: textValue(&c.TasksKey, "FILE"), help: "private key of --tasks-cert (PEM)"},
		{name: "tasks-hold", value: amountValue(&c.TasksHold), help: "fraction of a list's tasks; a change that removes more, or all, waits for rota schedule confirm; 0 or 1 disables it"},
		{name: "tasks-hold-for", value: durationValue(&c.TasksHoldFor), help: "time after which a held list that stays unchanged is accepted without confirmation; 0 for never"},
		{name: "tasks-columns", value: pairsValue(&c.TasksColumns, "FIELD=TEXT,...", ","), help: "templates that make task fields from CSV columns, as in 'id={a}-{b},weight={n}'"},
	}
	return c, newOptions("scheduler", c.validate, append(append(list, c.Log.options()...), traceOptions(&c.Trace)...)...)
}

// Worker is the configuration of a worker.
type Worker struct {
	Name       string   // stable: what it comes back as after a restart
	Schedulers []string // gRPC addresses, tried in order
	TLSCA      string   // CA bundle for them, PEM; empty: no TLS
	TLSRevoked string   // a list of their certificates that are good no more
	TLSCert    string   // what this worker shows them
	TLSKey     string
	// JoinTokenFile has the token by which a worker of a pool gets its certificate.
	JoinTokenFile string
	Zone          string
	Labels        map[string]string
	Kinds         []string // of task that it takes; none: those it has a function for
	Capacity      map[string]float64
	MaxTasks      int     // 0: no limit
	Strength      float64 // its share of load relative to others
	RestartGrace  time.Duration
	Exec          map[string]string        // kind → command line, split into words without a shell
	ExecGrace     map[string]time.Duration // kind → how long its processes may take to end
	ExecDirs      []string                 // that {NAME:path} of Exec is held to; the first is the working directory
	// NewPrivileges lets what it runs, of jobs and Exec, gain privileges by sudo and the like.
	NewPrivileges bool
	HTTP          string            // the address of /readyz; empty: none
	Calls         string            // where it answers calls of its functions; empty: a port on loopback
	Functions     map[string]string // function → URL of the server that answers it
	Demo          bool              // offer the built-in function for tasks of the default kind
	Supervise     bool              // started again whenever its process ends by itself
	Log           Log
	Trace         Trace

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
	Output  int64  // bytes of output kept of one attempt
	// OutputTotal is the bytes of output kept of all attempts together.
	OutputTotal int64
	Memory      int64 // bytes
	CPUs        float64
	Processes   int
	// AddressSpace, in bytes, and OpenFiles are of each process, UserProcesses of
	// all of User.
	AddressSpace             int64
	UserProcesses, OpenFiles int
	Cgroup                   string
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
		Name: hostName(), Schedulers: []string{DefaultGRPC()}, Strength: 1,
		Job: JobRules{Slots: 256, Output: output.DefaultMaxBytes, OutputTotal: output.DefaultMaxTotal},
		Log: Log{Level: "info", Format: "text"},
	}
	list := []*option{
		{name: "name", value: textValue(&c.Name, "NAME"), help: "name of this worker; keep it the same across restarts", def: "the host's"},
		{name: "schedulers", value: listValue(&c.Schedulers, "ADDR,..."), help: "gRPC addresses of the schedulers, tried in order", aliases: []string{"scheduler_addr"}},
		{name: "tls-ca", value: textValue(&c.TLSCA, "FILE"), help: "CA bundle that signs the schedulers' certificates (PEM); if unset, TLS is off"},
		{name: "tls-revoked", value: textValue(&c.TLSRevoked, "FILE"), help: "revocation list (rota cert revoke); when it changes, connections of revoked certificates are closed within seconds"},
		{name: "tls-cert", value: textValue(&c.TLSCert, "FILE"), help: "client certificate of this worker, issued for its name (PEM)"},
		{name: "tls-key", value: textValue(&c.TLSKey, "FILE"), help: "private key of --tls-cert (PEM)"},
		{name: "join-token-file", value: textValue(&c.JoinTokenFile, "FILE"), help: "file with a pool worker's join token, instead of --tls-ca, --tls-cert and --tls-key; if unset, ROTA_JOIN_TOKEN"},
		{name: "job", value: linesValue(&c.Job.Allow, "COMMAND"), help: "command that jobs may run: words and {name:TYPE}, as in 'bash {script:path}', or any; repeatable; without it the worker runs no jobs"},
		{name: "job-dirs", value: listValue(&c.Job.Dirs, "DIR,..."), help: "directories that jobs may work in and whose files they may name"},
		{name: "job-env", value: listValue(&c.Job.Env, "NAME,..."), help: "environment variables that jobs may set; * for all"},
		{name: "job-user", value: textValue(&c.Job.User, "NAME"), help: "user that jobs run as", def: "the worker's own"},
		{name: "job-slots", value: countValue(&c.Job.Slots), help: "maximum number of concurrent jobs"},
		{name: "job-timeout", value: durationValue(&c.Job.Timeout), help: "upper limit of a job's time limit; 0 for none"},
		{name: "job-data", value: textValue(&c.Job.Data, "DIR"), help: "directory of job output", def: "rota-data/jobs-NAME"},
		{name: "job-output", value: countValue(&c.Job.Output), help: "bytes of output to keep per job; the oldest are dropped first"},
		{name: "job-output-total", value: countValue(&c.Job.OutputTotal), help: "bytes of output to keep for all jobs, running and ended; the oldest ended output is dropped first"},
		{name: "job-memory", value: countValue(&c.Job.Memory), help: "memory limit of a job, in bytes; needs --job-cgroup; 0 for no limit"},
		{name: "job-cpus", value: amountValue(&c.Job.CPUs), help: "CPU limit of a job, in cores; needs --job-cgroup; 0 for no limit"},
		{name: "job-processes", value: countValue(&c.Job.Processes), help: "limit of processes and threads of a job; needs --job-cgroup; 0 for no limit"},
		{name: "job-address-space", value: countValue(&c.Job.AddressSpace), help: "address space limit of each process of a job, in bytes (RLIMIT_AS); 0 for no limit"},
		{name: "job-user-processes", value: countValue(&c.Job.UserProcesses), help: "limit of all processes and threads of --job-user, including those outside jobs (RLIMIT_NPROC); 0 for no limit"},
		{name: "job-open-files", value: countValue(&c.Job.OpenFiles), help: "limit of open files of each process of a job; 0 for no limit"},
		{name: "job-cgroup", value: textValue(&c.Job.Cgroup, "DIR"), help: "cgroup v2 directory that is delegated to the worker and enforces the limits of jobs"},
		{name: "zone", value: textValue(&c.Zone, "NAME"), help: "failure zone of this worker"},
		{name: "labels", value: pairsValue(&c.Labels, "K=V,...", ","), help: "labels that placement rules can match"},
		{name: "kinds", value: listValue(&c.Kinds, "KIND,..."), help: "kinds of task to accept; if unset, all that the worker can run"},
		{name: "capacity", value: amountsValue(&c.Capacity, "K=N,..."), help: "amount of each resource that the worker offers"},
		{name: "max-tasks", value: countValue(&c.MaxTasks), help: "maximum number of instances; 0 for no limit"},
		{name: "strength", value: amountValue(&c.Strength), help: "this worker's share of the load relative to other workers"},
		{name: "restart-grace", value: durationValue(&c.RestartGrace), help: "time for which tasks wait for this worker to come back after a crash or an orderly stop, before they move"},
		{name: "exec", value: pairsValue(&c.Exec, "KIND=COMMAND", "\n"), help: "command that runs a kind's tasks as processes, as in 'feed --symbol {ID:word}'; types as in --job; {{.ID}} is a template that accepts words; repeatable"},
		{name: "exec-dirs", value: listValue(&c.ExecDirs, "DIR,..."), help: "directories whose files {ID:path} and similar parameters may name; the first is the working directory"},
		{name: "exec-grace", value: durationsValue(&c.ExecGrace, "KIND=DURATION,..."), help: "time between SIGTERM and SIGKILL for a kind's processes", def: "10s each"},
		{name: "new-privileges", value: yesValue(&c.NewPrivileges), help: "let jobs and --exec processes gain privileges, for example by sudo; by default they run with no_new_privs"},
		{name: "http", value: textValue(&c.HTTP, "ADDR"), help: "listen address of /readyz, /healthz and /metrics; if unset, they are not served"},
		{name: "calls", value: textValue(&c.Calls, "ADDR"), help: "listen address for function calls; calls from other machines need certificates; if unset, a port on loopback"},
		{name: "function", value: pairsValue(&c.Functions, "NAME=URL", "\n"), help: "function to offer, and the URL of the server that answers its calls; repeatable"},
		{name: "demo", value: yesValue(&c.Demo), help: "run tasks of kind \"task\" with a built-in function"},
		{name: "supervise", value: yesValue(&c.Supervise), help: "restart the worker process whenever it exits by itself"},
		{name: "grpc-server-addr", value: textValue(&c.Jobs.Addr, "ADDR"), fileOnly: true},
		{name: "grpc-server-use-tls", value: yesValue(&c.Jobs.TLS), fileOnly: true},
		{name: "grpc-server-crt-file", value: textValue(&c.Jobs.CertFile, "FILE"), fileOnly: true},
		{name: "grpc-server-key-file", value: textValue(&c.Jobs.KeyFile, "FILE"), fileOnly: true},
	}
	return c, newOptions("worker", c.validate, append(append(list, c.Log.options()...), traceOptions(&c.Trace)...)...)
}

// Dev is the configuration of a whole cluster on one machine, to try things.
type Dev struct {
	Workers      int
	Schedulers   int               // 1, 3 or 5; several are processes of their own
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
	Trace        Trace
}

// NewDev returns the defaults and the table of options that fills them.
func NewDev() (*Dev, *Options) {
	c := &Dev{
		Workers: 3, Schedulers: 1, Restart: "ended", HTTP: defaultHTTP(), GRPC: DefaultGRPC(), Gateway: defaultGateway(), Lease: 5 * time.Second,
		Log: Log{Level: "warn", Format: "text"},
	}
	list := []*option{
		{name: "workers", value: countValue(&c.Workers), help: "number of workers to start"},
		{name: "schedulers", value: countValue(&c.Schedulers), help: "number of schedulers to start: 1, 3 or 5; several form a cluster, each in its own process"},
		{name: "tasks", value: textValue(&c.Tasks, "FILE"), help: "file of tasks to run (YAML, JSON, JSON lines or CSV); if unset, 5,366 flight routes"},
		{name: "tasks-columns", value: pairsValue(&c.TasksColumns, "FIELD=TEXT,...", ","), help: "templates that make task fields from CSV columns, as in 'id={a}-{b},weight={n}'"},
		{name: "data-dir", value: textValue(&c.DataDir, "DIR"), help: "directory for the state; if unset, nothing is kept"},
		{name: "insecure", value: yesValue(&c.Insecure), help: "use no token and no TLS: every local user may do everything"},
		{name: "restart", value: oneOf(&c.Restart, "never", "ended", "always"), help: "which dead workers to restart: none (never), those that exited by themselves (ended), or all (always)"},
		{name: "http", value: textValue(&c.HTTP, "ADDR"), help: "listen address of the HTTP API and the console"},
		{name: "grpc", value: textValue(&c.GRPC, "ADDR"), help: "listen address for workers and the gRPC API"},
		{name: "gateway", value: textValue(&c.Gateway, "ADDR"), help: "listen address of the gateway for function calls; empty disables it"},
		{name: "lease", value: durationValue(&c.Lease), help: "lease: time for which a worker's grants stay valid without word from a scheduler"},
	}
	return c, newOptions("dev", c.validate, append(append(list, c.Log.options()...), traceOptions(&c.Trace)...)...)
}

// hostName is a name that is the same after a restart.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}
