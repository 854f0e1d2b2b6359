// Package gatewayfile reads gateway.yaml and puts its changes in force while the
// gateway runs.
//
// rota gateway uses it. It must never guess: a key that is not known, a value
// that does not fit, is an error that names file, line and key, and the
// configuration that is in force stays.
package gatewayfile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/compat/olscheduler"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/linedoc"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/internal/wholefile"
)

// file is gateway.yaml as it is written.
type file struct {
	Listen    any                 `yaml:"listen"`
	TLS       *tlsFile            `yaml:"tls"`
	Admin     adminFile           `yaml:"admin"`
	Hosts     []string            `yaml:"hosts"`
	CORS      corsFile            `yaml:"cors"`
	Trusted   []string            `yaml:"trusted_proxies"`
	Proxied   []string            `yaml:"proxy_protocol"`
	Special   []string            `yaml:"special_workers"`
	Auth      string              `yaml:"authorization"`
	Workers   []workerFile        `yaml:"workers"`
	WorkerTLS workerTLS           `yaml:"worker_tls"`
	Refusals  []refusal           `yaml:"worker_refusals"`
	Closed    bool                `yaml:"closed"`
	Functions map[string]function `yaml:"functions"`
	Defaults  policy              `yaml:"defaults"`
	Routes    []route             `yaml:"routes"`
	Health    health              `yaml:"health"`
	Limits    limits              `yaml:"limits"`
	Drain     time.Duration       `yaml:"drain"`
	AccessLog float64             `yaml:"access_log"`
	Trace     bool                `yaml:"trace"`
}

type tlsFile struct {
	Require bool   `yaml:"require"`
	Cert    string `yaml:"cert"`
	Key     string `yaml:"key"`
}

type adminFile struct {
	Socket    string `yaml:"socket"`
	Listen    any    `yaml:"listen"`
	Token     string `yaml:"token"`
	TokenFile string `yaml:"token_file"`
}

type corsFile struct {
	Origins     []string      `yaml:"origins"`
	Functions   bool          `yaml:"functions"`
	Headers     []string      `yaml:"headers"`
	Expose      []string      `yaml:"expose"`
	Credentials bool          `yaml:"credentials"`
	MaxAge      time.Duration `yaml:"max_age"`
}

// refusal is an answer by which a worker says that it has not run a call.
type refusal struct {
	Status     int    `yaml:"status"`
	Begins     string `yaml:"begins"`
	Failing    bool   `yaml:"failing"`
	MayHaveRun bool   `yaml:"may_have_run"`
}

type workerFile struct {
	URL         string    `yaml:"url"`
	Name        string    `yaml:"name"`
	Weight      *int      `yaml:"weight"`
	MaxInFlight int       `yaml:"max_in_flight"`
	Functions   []string  `yaml:"functions"`
	TLS         workerTLS `yaml:"tls"`
}

// UnmarshalYAML lets a worker be written as its URL alone.
func (w *workerFile) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&w.URL)
	}
	type plain workerFile
	return n.Load((*plain)(w), yaml.WithKnownFields())
}

type function struct {
	Packages []string   `yaml:"packages"`
	Split    *splitFile `yaml:"split"`
	policy   `yaml:",inline"`
}

type route struct {
	Host     string   `yaml:"host"`
	Prefix   string   `yaml:"prefix"`
	Function string   `yaml:"function"`
	Strip    bool     `yaml:"strip"`
	Methods  []string `yaml:"methods"`
	rules    `yaml:",inline"`
}

type policy struct {
	rules         `yaml:",inline"`
	Balancer      *string `yaml:"balancer"`
	LoadThreshold *uint   `yaml:"load_threshold"`
	Sticky        *struct {
		Header string `yaml:"header"`
		Cookie string `yaml:"cookie"`
		Query  string `yaml:"query"`
	} `yaml:"sticky"`
	MaxInFlight *int `yaml:"max_in_flight"`
	Queue       *struct {
		Length  *int           `yaml:"length"`
		Timeout *time.Duration `yaml:"timeout"`
		Restart *time.Duration `yaml:"restart"`
	} `yaml:"queue"`
	Rate *struct {
		PerSecond float64 `yaml:"per_second"`
		Burst     int     `yaml:"burst"`
		By        string  `yaml:"by"`
	} `yaml:"rate"`
	Retries *struct {
		Attempts *int     `yaml:"attempts"`
		Budget   *float64 `yaml:"budget"`
	} `yaml:"retries"`
	Hedge    *bool `yaml:"hedge"`
	Timeouts *struct {
		Connect *time.Duration `yaml:"connect"`
		Header  *time.Duration `yaml:"header"`
		Call    *time.Duration `yaml:"call"`
		Idle    *time.Duration `yaml:"idle"`
	} `yaml:"timeouts"`
}

type health struct {
	Interval      time.Duration `yaml:"interval"`
	Path          string        `yaml:"path"`
	Timeout       time.Duration `yaml:"timeout"`
	Failures      int           `yaml:"failures"`
	Quarantine    time.Duration `yaml:"quarantine"`
	MaxQuarantine time.Duration `yaml:"max_quarantine"`
	Panic         float64       `yaml:"panic"`
	Outliers      bool          `yaml:"outliers"`
	SlowStart     time.Duration `yaml:"slow_start"`
}

type limits struct {
	HeadBytes   int           `yaml:"head_bytes"`
	HeadTimeout time.Duration `yaml:"head_timeout"`
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	ReplayBytes int           `yaml:"replay_bytes"`
	Connections int           `yaml:"connections"`

	ConnectionAge         time.Duration `yaml:"connection_age"`
	ConnectionCalls       int           `yaml:"connection_calls"`
	WorkerConnectionAge   time.Duration `yaml:"worker_connection_age"`
	WorkerConnectionCalls int           `yaml:"worker_connection_calls"`
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// check refuses what means something else in a gateway.Policy.
func (p *policy) check(field string) error {
	if q := p.Queue; q != nil && q.Length != nil && *q.Length < 0 {
		return &rota.FieldError{Field: field + ".queue.length", Value: *q.Length, Want: "zero or more"}
	}
	if r := p.Retries; r != nil {
		if r.Attempts != nil && *r.Attempts < 1 {
			return &rota.FieldError{Field: field + ".retries.attempts", Value: *r.Attempts, Want: "1 to 5"}
		}
		if r.Budget != nil && !(*r.Budget >= 0) {
			return &rota.FieldError{Field: field + ".retries.budget", Value: *r.Budget, Want: "0 to 1"}
		}
	}
	return nil
}

// onto lays what the file says over a policy.
func (p *policy) onto(to gateway.Policy, from *files, field string) (out gateway.Policy, err error) {
	set(&to.Balancer, p.Balancer)
	set(&to.LoadThreshold, p.LoadThreshold)
	if s := p.Sticky; s != nil {
		to.StickyHeader, to.StickyCookie, to.StickyQuery = s.Header, s.Cookie, s.Query
	}
	set(&to.MaxInFlight, p.MaxInFlight)
	if q := p.Queue; q != nil {
		if q.Length != nil {
			if to.Queue = *q.Length; to.Queue == 0 {
				to.Queue = -1 // none may wait
			}
		}
		set(&to.QueueTimeout, q.Timeout)
		set(&to.RestartWait, q.Restart)
	}
	if r := p.Rate; r != nil {
		to.Rate, to.Burst, to.RateBy = r.PerSecond, r.Burst, r.By
	}
	if r := p.Retries; r != nil {
		set(&to.Attempts, r.Attempts)
		if r.Budget != nil {
			if to.RetryBudget = *r.Budget; to.RetryBudget == 0 {
				to.RetryBudget = -1 // none
			}
		}
	}
	set(&to.Hedge, p.Hedge)
	if t := p.Timeouts; t != nil {
		set(&to.ConnectTimeout, t.Connect)
		set(&to.HeaderTimeout, t.Header)
		set(&to.CallTimeout, t.Call)
		if set(&to.IdleTimeout, t.Idle); t.Idle != nil && *t.Idle == 0 {
			to.IdleTimeout = gateway.Never
		}
	}
	to.Rules, err = p.rules.onto(to.Rules, from, field)
	return to, err
}

func (p *policy) empty() bool { return *p == policy{} }

// Load reads the file. The error names it, and the line and key where it can.
func Load(path string) (gateway.Config, error) {
	raw, err := wholefile.Read(path, maxFile)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return gateway.Config{}, fmt.Errorf("%s: %w", path, err)
	}
	cfg, err := parse(raw, &files{dir: filepath.Dir(path), path: path})
	if err != nil {
		return cfg, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}

// maxFile is the most bytes that a gateway.yaml, or a file that it names, may have.
const maxFile = 4 << 20

// Parse reads the text of a gateway.yaml. Files that it names are relative to dir.
func Parse(raw []byte, dir string) (gateway.Config, error) {
	return parse(raw, &files{dir: dir})
}

// files reads the files that a configuration names, and keeps which those were.
type files struct {
	dir   string
	path  string // of the configuration itself; empty: it is no file
	named []string
}

// at is where a file that the configuration names is.
func (fs *files) at(name string) string {
	if name != "" && !filepath.IsAbs(name) {
		name = filepath.Join(fs.dir, name)
	}
	return name
}

// follow is at of a file that is read again when it changes.
func (fs *files) follow(name string) string {
	name = fs.at(name)
	fs.named = append(fs.named, name)
	return name
}

func (fs *files) read(name string) ([]byte, error) { return wholefile.Read(fs.follow(name), maxFile) }

// secret reads a file that nobody else may read.
func (fs *files) secret(name string) ([]byte, error) { return secretfile.Read(fs.follow(name)) }

func parse(raw []byte, from *files) (gateway.Config, error) {
	if len(raw) > maxFile {
		return gateway.Config{}, fmt.Errorf("more than %d bytes", maxFile)
	}
	doc, err := linedoc.YAMLNode(raw, linedoc.MaxMarks)
	if err != nil {
		return gateway.Config{}, err
	}
	var f file
	if doc != nil {
		if err := doc.Load(&f, yaml.WithV3Defaults(), yaml.WithKnownFields()); err != nil {
			return gateway.Config{}, explain(doc, err)
		}
	}
	cfg, err := f.config(from)
	if err == nil {
		err = cfg.Validate()
	}
	return cfg, located(doc, err)
}

// config is what the file says, with the files that it names read.
func (f *file) config(from *files) (gateway.Config, error) {
	cfg := gateway.Config{
		AdminToken: f.Admin.Token, Closed: f.Closed, Drain: f.Drain, AccessLog: f.AccessLog, Trace: f.Trace, Functions: map[string]gateway.Function{},
		Health: gateway.Health(f.Health), Limits: gateway.Limits(f.Limits), Hosts: f.Hosts, CORS: gateway.CORS(f.CORS),
	}
	var err error
	if cfg.Listen, err = addresses("listen", f.Listen); err != nil {
		return cfg, err
	}
	if cfg.AdminListen, err = addresses("admin.listen", f.Admin.Listen); err != nil {
		return cfg, err
	}
	if t := f.TLS; t != nil {
		cert, err := from.pair("tls", t.Cert, t.Key)
		if err != nil {
			return cfg, err
		}
		cfg.RequireTLS = t.Require
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	if f.Admin.Token != "" && from.path != "" {
		if err := secretfile.Check(from.path); err != nil {
			return cfg, fmt.Errorf("admin.token: %w", err)
		}
	}
	if f.Admin.TokenFile != "" {
		b, err := from.secret(f.Admin.TokenFile)
		if err != nil {
			return cfg, fmt.Errorf("admin.token_file: %w", err)
		}
		cfg.AdminToken = strings.TrimSpace(string(b))
	}
	if cfg.AdminSocket = f.Admin.Socket; cfg.AdminSocket != "none" {
		cfg.AdminSocket = from.at(cfg.AdminSocket)
	}
	if cfg.TrustedProxies, err = networks("trusted_proxies", f.Trusted); err != nil {
		return cfg, err
	}
	if cfg.ProxyProtocol, err = networks("proxy_protocol", f.Proxied); err != nil {
		return cfg, err
	}
	switch f.Auth {
	case "", "pass":
	case "drop":
		cfg.DropAuthorization = true
	default:
		return cfg, fmt.Errorf("authorization: %q: want pass or drop", f.Auth)
	}
	if cfg.SpecialWorkers, err = networks("special_workers", f.Special); err != nil {
		return cfg, err
	}
	if cfg.WorkerTLS, err = f.WorkerTLS.read(from, "worker_tls"); err != nil {
		return cfg, err
	}
	for _, r := range f.Refusals {
		cfg.WorkerRefusals = append(cfg.WorkerRefusals, gateway.WorkerRefusal(r))
	}
	if f.Refusals == nil {
		cfg.WorkerRefusals = olscheduler.WorkerRefusals()
	}
	if err := f.Defaults.check("defaults"); err != nil {
		return cfg, err
	}
	for name, fn := range f.Functions {
		if err := fn.check("functions." + name); err != nil {
			return cfg, err
		}
	}
	for i, w := range f.Workers {
		var own *tls.Config
		if w.TLS != (workerTLS{}) {
			if own, err = w.TLS.onto(f.WorkerTLS).read(from, fmt.Sprintf("workers[%d].tls", i)); err != nil {
				return cfg, err
			}
		}
		weight := 0
		if w.Weight != nil {
			switch {
			case *w.Weight < 0:
				return cfg, &rota.FieldError{Field: fmt.Sprintf("workers[%d].weight", i), Value: *w.Weight, Want: "a whole number, zero or more"}
			case *w.Weight == 0:
				weight = gateway.NoWeight
			default:
				weight = *w.Weight
			}
		}
		cfg.Workers = append(cfg.Workers, gateway.Worker{URL: w.URL, Name: w.Name, Weight: weight, MaxInFlight: w.MaxInFlight, Functions: w.Functions, TLS: own})
	}
	if cfg.Defaults, err = f.Defaults.onto(gateway.Policy{}, from, "defaults"); err != nil {
		return cfg, err
	}
	for name, fn := range f.Functions {
		g := gateway.Function{Packages: fn.Packages, Split: fn.Split.read()}
		if !fn.empty() {
			p, err := fn.onto(cfg.Defaults, from, "functions."+name)
			if err != nil {
				return cfg, err
			}
			g.Policy = &p
		}
		cfg.Functions[name] = g
	}
	for i, r := range f.Routes {
		field := fmt.Sprintf("routes[%d]", i)
		if r.Public {
			return cfg, fmt.Errorf("%s.public: want it at the function: a route's guard is added to its function's", field)
		}
		rules, err := r.onto(gateway.Rules{}, from, field)
		if err != nil {
			return cfg, err
		}
		cfg.Routes = append(cfg.Routes, gateway.Route{
			Host: r.Host, Prefix: r.Prefix, Function: r.Function, Strip: r.Strip, Methods: r.Methods, Rules: rules,
		})
	}
	return cfg, nil
}

// addresses reads one address or a list of them.
func addresses(key string, v any) (list []string, err error) {
	switch l := v.(type) {
	case nil:
	case string:
		list = []string{l}
	case []any:
		for i, a := range l {
			s, ok := a.(string)
			if !ok {
				return nil, fmt.Errorf("%s[%d]: want an address, host:port", key, i)
			}
			list = append(list, s)
		}
	default:
		return nil, fmt.Errorf("%s: want an address, host:port, or a list of them", key)
	}
	return list, nil
}

// networks reads a list of networks and addresses.
func networks(key string, list []string) (out []netip.Prefix, err error) {
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				return nil, fmt.Errorf("%s[%d]: %q: want an address or a network, 10.0.0.0/8", key, i, s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p)
	}
	return out, nil
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
