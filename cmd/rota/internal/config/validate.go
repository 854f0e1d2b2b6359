package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/job/output"
	"github.com/rota-project/rota/internal/listener"
	"github.com/rota-project/rota/internal/offer"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/scheduler"
)

// rule is a check of an option's value, under the name of the option.
type rule struct {
	name string
	err  error
}

func first(rules ...rule) (string, error) {
	for _, r := range rules {
		if r.err != nil {
			return r.name, r.err
		}
	}
	return "", nil
}

func (c *Scheduler) validate() (string, error) {
	return first(
		rule{"name", optionalName(c.Name)},
		rule{"root", rootName(c.Root)},
		rule{"gateway", c.optionallyReachable(c.Gateway)},
		rule{"tls", pair(c.TLS, c.TLSCert, c.TLSKey)},
		rule{"tls-ca", readable(c.TLSCA)},
		rule{"tls-ca", needed(len(c.Cluster) == 0 || !c.TLS || c.TLSCA != "", "a CA bundle: it verifies the certificates that the schedulers of a cluster show each other")},
		rule{"tls-revoked", readable(c.TLSRevoked)},
		rule{"tokens", secret(c.Tokens)},
		rule{"namespace", nameError(auth.CheckNamespace("namespace", c.Namespace))},
		rule{"engines", engines(c.Engines)},
		rule{"kubeconfig", secret(c.Kubernetes.Kubeconfig)},
		rule{"kube-namespaces", kubeNamespaces(c.Kubernetes.Namespaces)},
		rule{"nomad-token-file", secret(c.NomadTokenFile)},
		rule{"authority", c.authority()},
		rule{"oidc-audience", c.OIDC.audience()},
		rule{"oidc-roles", roles(c.OIDC.Roles)},
		rule{"oidc-client-id", needed(c.OIDC.ClientID == "" || c.OIDC.Issuer != "", "oidc_issuer too")},
		rule{"oidc-redirect-url", both(c.OIDC.ClientID, c.OIDC.RedirectURL, "oidc_client_id and oidc_redirect_url")},
		rule{"oidc-redirect-url", callback(c.OIDC.RedirectURL)},
		rule{"oidc-client-secret-file", needed(c.OIDC.ClientSecretFile == "" || c.OIDC.ClientID != "", "oidc_client_id too")},
		rule{"oidc-client-secret-file", secret(c.OIDC.ClientSecretFile)},
		rule{"client-roles", roles(c.ClientRoles)},
		rule{"client-roles", needed(len(c.ClientRoles) == 0 || c.TLS && c.TLSCA != "", "tls and tls_ca too: without them certificates are not verified")},
		rule{"client-roles", needed(len(c.ClientRoles) == 0 || c.Tokens != "" || c.OIDC.Issuer != "", "tokens or oidc_issuer too: without them every local user is an admin")},
		rule{"session-life", sessionLife(c.SessionLife)},
		rule{"http", c.reachable(c.HTTP)},
		rule{"grpc", c.reachable(c.GRPC)},
		rule{"advertise-http", optionalAddress(c.AdvertiseHTTP)},
		rule{"advertise-grpc", optionalAddress(c.AdvertiseGRPC)},
		rule{"etcd", endpoints(c.Etcd)},
		rule{"etcd-cert", both(c.EtcdCert, c.EtcdKey, "etcd_cert and etcd_key")},
		rule{"etcd-user", both(c.EtcdUser, c.EtcdPasswordFile, "etcd_user and etcd_password_file")},
		rule{"etcd-cert", readable(c.EtcdCert)},
		rule{"etcd-key", secret(c.EtcdKey)},
		rule{"etcd-ca", readable(c.EtcdCA)},
		rule{"etcd-password-file", secret(c.EtcdPasswordFile)},
		rule{"cluster", c.member()},
		rule{"name", c.among()},
		rule{"peer", optionalAddressToListen(c.Peer)},
		rule{"peer", needed(c.Peer == "" || len(c.Cluster) > 0, "cluster too: without it there is no peer port")},
		rule{"peer", c.guarded()},
		rule{"join", needed(!c.Join || len(c.Cluster) > 0, "cluster too, with the members to ask and this scheduler")},
		rule{"peer-insecure", needed(!c.PeerInsecure || len(c.Cluster) > 0, "cluster too: without it there is no peer port")},
		rule{"data-dir", needed(len(c.Etcd) > 0 || c.DataDir != "", "a directory, unless etcd is given")},
		rule{"lease", leaseTime(c.Lease)},
		rule{"etcd-history", needed(c.EtcdHistory >= 0, "zero or more")},
		rule{"events-keep", needed(c.EventsKeep <= scheduler.MaxEvents, fmt.Sprintf("at most %d", scheduler.MaxEvents))},
		rule{"events-age", needed(c.EventsAge >= time.Minute, "at least 1m")},
		rule{"interval", positive(c.Interval)},
		rule{"pass-timeout", positive(c.PassTimeout)},
		rule{"max-moves", needed(c.MaxMoves > 0, "at least 1")},
		rule{"hysteresis", share(c.Placement.Hysteresis)},
		rule{"load-blend", share(c.Placement.LoadBlend)},
		rule{"load-band", share(c.Placement.LoadBand)},
		rule{"tasks-url", webAddress(c.TasksURL)},
		rule{"tasks-file", followed(c.TasksFile)},
		rule{"tasks-rest", positive(c.TasksRest)},
		rule{"tasks-headers-file", followed(c.TasksHeadersFile, secret)},
		rule{"tasks-token-file", followed(c.TasksTokenFile, secret)},
		rule{"tasks-ca", followed(c.TasksCA, readable)},
		rule{"tasks-cert", both(c.TasksCert, c.TasksKey, "tasks_cert and tasks_key")},
		rule{"tasks-cert", followed(c.TasksCert, readable)},
		rule{"tasks-key", followed(c.TasksKey, secret)},
		rule{"tasks-poll", positive(c.TasksPoll)},
		rule{"tasks-hold", share(c.TasksHold)},
		traced(c.Trace),
	)
}

func (c *Worker) validate() (string, error) {
	asWorker := rota.Worker{
		Name: c.Name, Zone: c.Zone, Labels: c.Labels, Kinds: c.Kinds, Capacity: c.Capacity,
		MaxTasks: c.MaxTasks, Strength: c.Strength,
	}
	if err := asWorker.Validate(); err != nil {
		var fe *rota.FieldError
		if errors.As(err, &fe) {
			name, rest, _ := strings.Cut(strings.ReplaceAll(fe.Field, "_", "-"), ".")
			if rest != "" {
				rest += ": "
			}
			return name, fmt.Errorf("%s%w", rest, want(fmt.Sprint(fe.Value), "%s", fe.Want))
		}
		return "name", err
	}
	return first(
		rule{"name", nameable(c.Name)},
		rule{"schedulers", needed(len(c.Schedulers) > 0, "at least one address")},
		rule{"schedulers", addresses(c.Schedulers)},
		rule{"strength", needed(c.Strength > 0, "a number above zero")},
		rule{"tls-ca", readable(c.TLSCA)},
		rule{"tls-revoked", readable(c.TLSRevoked)},
		rule{"tls-cert", both(c.TLSCert, c.TLSKey, "tls_cert and tls_key")},
		rule{"tls-cert", pair(c.TLSCert != "", c.TLSCert, c.TLSKey)},
		rule{"tls-cert", needed(c.TLSCert == "" || c.TLSCA != "", "tls_ca too: without it TLS is off")},
		rule{"job-slots", needed(c.Job.Slots > 0, "at least 1")},
		rule{"job-output", needed(c.Job.Output >= output.MinMaxBytes, fmt.Sprintf("at least %d", output.MinMaxBytes))},
		rule{"job-output-total", needed(c.Job.OutputTotal >= c.Job.Output, fmt.Sprintf("at least job_output, which is %d", c.Job.Output))},
		rule{"exec", commands(c.Exec)},
		rule{"exec-grace", graces(c.ExecGrace, c.Exec)},
		rule{"http", optionalLoopback(c.HTTP)},
		rule{"calls", c.mayAnswerCalls()},
		rule{"function", servers(c.Functions)},
		rule{"grpc-server-addr", optionalLoopback(c.Jobs.Addr)},
		rule{"grpc-server-use-tls", pair(c.Jobs.TLS, c.Jobs.CertFile, c.Jobs.KeyFile)},
		traced(c.Trace),
	)
}

func (c *Dev) validate() (string, error) {
	return first(
		rule{"workers", needed(c.Workers >= 1 && c.Workers <= 1000, "1 to 1000")},
		rule{"schedulers", needed(c.Schedulers == 1 || c.Schedulers == 3 || c.Schedulers == 5, "1, 3 or 5")},
		rule{"tasks", readable(c.Tasks)},
		rule{"http", loopback(c.HTTP)},
		rule{"grpc", loopback(c.GRPC)},
		rule{"gateway", optionalLoopback(c.Gateway)},
		rule{"lease", leaseTime(c.Lease)},
		traced(c.Trace),
	)
}

// traced checks where spans are sent.
func traced(t Trace) rule {
	err := t.Check()
	var fe *rota.FieldError
	if !errors.As(err, &fe) {
		return rule{"otlp-endpoint", err}
	}
	return rule{strings.ReplaceAll(fe.Field, "_", "-"), ownWords(err)}
}

func needed(ok bool, expected string) error {
	if ok {
		return nil
	}
	return errors.New("want " + expected)
}

// nameable checks a name as the root package does.
func nameable(s string) error {
	return nameError(rota.Worker{Name: s}.Validate())
}

// optionalName also takes no name at all, for one that is made up later.
func optionalName(s string) error {
	if s == "" {
		return nil
	}
	return nameable(s)
}

func nameError(err error) error {
	var fe *rota.FieldError
	if errors.As(err, &fe) {
		return want(fmt.Sprint(fe.Value), "%s", fe.Want)
	}
	return err
}

func rootName(s string) error {
	if strings.Contains(s, "/") {
		return want(s, "a name without slashes")
	}
	return nameable(s)
}

// splitAddress takes an address apart; form says what it has to look like.
func splitAddress(addr, form string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(addr); err != nil {
		return "", "", want(addr, "%s", form)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", want(addr, "a port from 0 to 65535")
	}
	return host, port, nil
}

// loopback returns an error unless addr is a host:port that only this machine
// can reach. Whoever can reach the API may run things, so nothing else is bound
// while there are no credentials to ask for.
func loopback(addr string) error {
	host, port, err := splitAddress(addr, "an address such as "+defaultHTTP())
	if err != nil {
		return err
	}
	if auth.Loopback(host) {
		return nil
	}
	return want(addr, "a loopback address such as %s: other addresses need credentials", net.JoinHostPort(listener.Loopback(), port))
}

// reachable checks an address to listen on: off loopback it takes TLS and
// somebody who has to say who they are.
func (c *Scheduler) reachable(addr string) error {
	host, _, err := splitAddress(addr, "an address such as "+defaultHTTP())
	if err != nil {
		return err
	}
	if c.TLS && c.TLSCA == "" && !auth.Loopback(host) {
		return want(addr, "tls_ca too: it verifies the certificates of workers")
	}
	return auth.CheckListen(addr, c.TLS, c.Tokens != "" || c.OIDC.Issuer != "")
}

// engines checks the names of engines.
func engines(names []string) error {
	for _, name := range names {
		if err := engine.CheckName(name); err != nil {
			var fe *rota.FieldError
			if errors.As(err, &fe) {
				return want(fmt.Sprint(fe.Value), "%s", fe.Want)
			}
			return err
		}
	}
	return nil
}

// kubeNamespaces checks the names of namespaces as pools' are checked.
func kubeNamespaces(names []string) error {
	for _, name := range names {
		if w := engine.Options(engine.Kubernetes)["namespace"](name); w != "" {
			return want(name, "%s", w)
		}
	}
	return nil
}

// authority checks the directory of the authority: workers show its certificates, so
// there has to be TLS that takes them.
func (c *Scheduler) authority() error {
	switch {
	case c.Authority == "":
		return nil
	case !c.TLS || c.TLSCA == "":
		return want(c.Authority, "tls and tls_ca too: without them certificates are not verified")
	}
	return pki.CheckAuthority(c.Authority, time.Now())
}

func (c *Scheduler) optionallyReachable(addr string) error {
	if addr == "" {
		return nil
	}
	return c.reachable(addr)
}

// mayAnswerCalls: other machines call with certificates only.
func (c *Worker) mayAnswerCalls() error {
	if c.Calls == "" || c.TLSCA != "" && c.TLSCert != "" {
		return optionalAddress(c.Calls)
	}
	return loopback(c.Calls)
}

func optionalAddress(addr string) error {
	if addr == "" {
		return nil
	}
	return addresses([]string{addr})
}

func roles(m map[string]string) error {
	for value, name := range m {
		if _, err := auth.ParseRole(name); err != nil {
			return want(value+"="+name, "viewer, submitter, operator or admin")
		}
	}
	return nil
}

// audience is needed for JWTs that callers show; those of people who sign in are for the
// client.
func (o OIDC) audience() error {
	if o.ClientID != "" && o.Audience == "" {
		return nil
	}
	return both(o.Issuer, o.Audience, "oidc_issuer and oidc_audience")
}

// callback: a redirect of an issuer would show others the code.
func callback(s string) error {
	if s == "" {
		return nil
	}
	if err := auth.CheckRedirectURL(s); err != nil {
		return want(address.Text(s), "https://..., the console's address and %s", auth.CallbackPath)
	}
	return nil
}

func sessionLife(d time.Duration) error {
	if d < time.Minute || d > auth.MaxSessionLife {
		return want(d.String(), "1m to %v", auth.MaxSessionLife)
	}
	return nil
}

func optionalLoopback(addr string) error {
	if addr == "" {
		return nil
	}
	return loopback(addr)
}

func addresses(list []string) error {
	for _, a := range list {
		host, _, err := splitAddress(a, "host:port")
		if err != nil {
			return err
		}
		if host == "" {
			return want(a, "host:port")
		}
	}
	return nil
}

// endpoints checks what etcd's client takes for one; anything else it would look
// for without end.
func endpoints(list []string) error {
	for _, e := range list {
		scheme, addr, ok := strings.Cut(e, "://")
		switch {
		case ok && (scheme == "unix" || scheme == "unixs") && addr != "":
			continue
		case !ok:
			addr = e
		case scheme != "http" && scheme != "https":
			addr = ""
		}
		if strings.Contains(addr, "@") {
			return want(e, "no user and password in the URL: use etcd_user and etcd_password_file")
		}
		if addresses([]string{strings.TrimSuffix(addr, "/")}) != nil {
			return want(e, "http://host:port, https://host:port, or host:port")
		}
	}
	return nil
}

// pair checks a certificate and its key.
func pair(use bool, cert, key string) error {
	if !use {
		return nil
	}
	if cert == "" || key == "" {
		return errors.New("want the files of a certificate and its key")
	}
	_, err := pki.KeyPair(cert, key)
	return err
}

func both(a, b, names string) error {
	return needed((a == "") == (b == ""), "both "+names+", or neither")
}

func readable(name string) error {
	if name == "" {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return f.Close()
}

// followed is for a file that is read again and again, and may not be there yet: a
// pipe or a device is none, and opening it might take for ever. more is asked of one
// that is well.
func followed(name string, more ...func(string) error) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return want(name, "a regular file")
	}
	for _, ask := range more {
		if err := ask(name); err != nil {
			return err
		}
	}
	return nil
}

// secret is readable for a file that nobody else may read.
func secret(name string) error {
	if err := readable(name); err != nil || name == "" {
		return err
	}
	return secretfile.Check(name)
}

func positive(d time.Duration) error { return needed(d > 0, "a duration above zero") }

// leaseTime: below a second, the tick of etcd's own leases, nothing would be sure.
func leaseTime(d time.Duration) error {
	if d < time.Second || d > time.Hour {
		return want(d.String(), "1s to 1h")
	}
	return nil
}

func webAddress(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return want(s, "an address that begins with http:// or https://")
	}
	return nil
}

func commands(m map[string]string) error {
	for kind, command := range m {
		if strings.TrimSpace(command) == "" {
			return want(kind+"=", "KIND=COMMAND")
		}
	}
	return nil
}

// maxGrace is the longest grace of a kind of task.
const maxGrace = time.Hour

func graces(of map[string]time.Duration, exec map[string]string) error {
	for _, kind := range slices.Sorted(maps.Keys(of)) {
		switch d := of[kind]; {
		case exec[kind] == "":
			return want(kind, "a kind that exec has a command for")
		case d <= 0 || d > maxGrace:
			return want(kind+"="+d.String(), "more than zero, at most 1h")
		}
	}
	return nil
}

func share(f float64) error {
	if f > 1 {
		return fmt.Errorf("%g: want a fraction, 0 to 1", f)
	}
	return nil
}

// servers are the URLs that answer functions, by the functions' names.
func servers(functions map[string]string) error {
	for name, target := range functions {
		u, err := url.Parse(target)
		if offer.ValidName(name) != nil || err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			return want(name+"="+target, "NAME=http://host:port")
		}
	}
	return nil
}
