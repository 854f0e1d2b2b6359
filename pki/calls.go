package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// CallServer is the configuration of a worker's port for calls: it shows the
// worker's certificate, and takes nobody but schedulers, whose gateways call.
func (s *Source) CallServer() (*tls.Config, error) {
	if s.files.CA == "" {
		return nil, &rota.FieldError{Field: "tls-ca", Value: "", Want: "who may vouch for schedulers; it is missing"}
	}
	c, err := s.Server(true, "http/1.1")
	if err != nil {
		return nil, err
	}
	inner := c.GetConfigForClient
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		each, err := inner(h)
		if err != nil {
			return nil, err
		}
		each.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.VerifiedChains) == 0 {
				return errors.New("calls come from schedulers only")
			}
			if _, scheduler := Names(state.VerifiedChains[0][0]); !scheduler {
				return errors.New("calls come from schedulers only")
			}
			return s.Verify(state)
		}
		return each, nil
	}
	return c, nil
}

// CallClient is the configuration of a gateway's connection to the port for calls
// of one worker: it shows the scheduler's certificate, and takes no certificate but
// that worker's, wherever it is reached.
func (s *Source) CallClient(worker string) *tls.Config {
	c := s.Client("", "http/1.1")
	c.InsecureSkipVerify = true // VerifyConnection verifies: by the worker's name instead of a host's
	roots := c.RootCAs
	c.VerifyConnection = func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0] // a server has one
		others := x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			others.AddCert(cert)
		}
		chains, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: others, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return err
		}
		if name, _ := Names(leaf); name == "" || name != worker {
			return fmt.Errorf("the certificate is not of worker %s", text.Clip(worker, text.Short))
		}
		state.VerifiedChains = chains
		return s.Verify(state)
	}
	return c
}
