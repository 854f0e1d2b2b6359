package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// ServerTLS returns what the gRPC server is to be secured with, or nil if it is
// not to be.
func (c *Scheduler) ServerTLS() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil //nolint:nilnil // documented: none
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("the pair %s, %s: %w", c.TLSCert, c.TLSKey, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// ClientTLS returns what the connections to schedulers are to be secured with,
// or nil if they are not to be.
func (c *Worker) ClientTLS() (*tls.Config, error) { return ClientTLS(c.TLSCA) }

// ClientTLS trusts whom the named PEM file does. No name, no TLS: nil.
func ClientTLS(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // documented: none
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(file + ": no certificate in PEM")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
