package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/rota-project/rota/internal/text"
)

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
			return fmt.Errorf("the certificate is not issued for worker %s", text.Clip(worker, text.Short))
		}
		state.VerifiedChains = chains
		return s.Verify(state)
	}
	return c
}
