package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/rota-project/rota"
)

// SchedulerHost is a name that a scheduler's certificate has beside its hosts, and no
// other certificate may have. It is reached by nobody. A program that can only hold a
// server's certificate to the name of a host, such as a member of etcd that connects
// to another, is held to schedulers by it.
const SchedulerHost = "scheduler.rota.internal"

// reservedHost reports whether a certificate for a host would pass for a scheduler's.
func reservedHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	_, domain, _ := strings.Cut(SchedulerHost, ".")
	return host == SchedulerHost || host == "*."+domain
}

// hosts are the names of a certificate under which it is reached.
func hosts(cert *x509.Certificate) []string {
	var out []string
	for _, name := range cert.DNSNames {
		if !reservedHost(name) {
			out = append(out, name)
		}
	}
	return out
}

// errNotScheduler is why whoever shows another certificate, or none, is refused.
var errNotScheduler = errors.New("only schedulers connect here")

// schedulersOnly refuses all but schedulers, and schedulers whose certificates are good
// no more.
func (s *Source) schedulersOnly(state tls.ConnectionState) error {
	if len(state.VerifiedChains) == 0 {
		return errNotScheduler
	}
	if _, scheduler := Names(state.VerifiedChains[0][0]); !scheduler {
		return errNotScheduler
	}
	return s.Verify(state)
}

// SchedulersOnly is the configuration of a port that takes nobody but schedulers, by
// their certificates: a worker's port for calls, which gateways call, and the port by
// which schedulers keep their store together. It speaks HTTP/1.
func (s *Source) SchedulersOnly() (*tls.Config, error) {
	if s.files.CA == "" {
		return nil, &rota.FieldError{Field: "tls-ca", Value: "", Want: "a CA bundle that signs the schedulers' certificates"}
	}
	c, err := s.Server(true, "http/1.1")
	if err != nil {
		return nil, err
	}
	inner := c.GetConfigForClient
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		each, err := inner(h)
		if err == nil {
			each.VerifyConnection = s.schedulersOnly
		}
		return each, err
	}
	return c, nil
}

// SchedulerClient is the configuration of one dial to a port that SchedulersOnly
// guards, of now: whoever answers must be a scheduler, too.
func (s *Source) SchedulerClient() *tls.Config {
	c := s.Client("", "http/1.1")
	c.VerifyConnection = s.schedulersOnly
	return c
}
