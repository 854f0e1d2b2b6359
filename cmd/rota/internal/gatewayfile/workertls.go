package gatewayfile

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
)

// workerTLS says how workers on https are reached.
type workerTLS struct {
	CA         string `yaml:"ca"`   // who signs their certificates, PEM; empty is the system's roots
	Cert       string `yaml:"cert"` // what they are shown
	Key        string `yaml:"key"`
	ServerName string `yaml:"server_name"` // the name in their certificates; empty is the URL's host
	MinVersion string `yaml:"min_version"` // 1.2 or 1.3
	Insecure   *bool  `yaml:"insecure_skip_verify"`
}

// onto lays what one worker's section says over that of all.
func (t workerTLS) onto(all workerTLS) workerTLS {
	out := workerTLS{
		CA: cmp.Or(t.CA, all.CA), Cert: t.Cert, Key: t.Key, ServerName: cmp.Or(t.ServerName, all.ServerName),
		MinVersion: cmp.Or(t.MinVersion, all.MinVersion), Insecure: cmp.Or(t.Insecure, all.Insecure),
	}
	if t.Cert == "" && t.Key == "" {
		out.Cert, out.Key = all.Cert, all.Key
	}
	if t.Insecure != nil && *t.Insecure {
		out.CA = t.CA // all's would say what is not so
	}
	return out
}

// read reads the files that the section names. It is nil if the section is empty.
func (t workerTLS) read(from *files, field string) (*tls.Config, error) {
	if t == (workerTLS{}) {
		return nil, nil //nolint:nilnil // then the gateway's own choice is right
	}
	if t.ServerName != "" && !serverNameForm.MatchString(t.ServerName) {
		return nil, fmt.Errorf("%s.server_name: %q: want a host's name or address, without a port", field, t.ServerName)
	}
	c := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.Insecure != nil && *t.Insecure} //nolint:gosec // who says so is warned
	switch t.MinVersion {
	case "", "1.2":
		c.MinVersion = tls.VersionTLS12
	case "1.3":
		c.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("%s.min_version: %q: want \"1.2\" or \"1.3\"", field, t.MinVersion)
	}
	if t.CA != "" {
		if c.InsecureSkipVerify {
			return nil, fmt.Errorf("%s.insecure_skip_verify: want false, as there is a ca: it would not be used", field)
		}
		b, err := from.read(t.CA)
		if err != nil {
			return nil, fmt.Errorf("%s.ca: %w", field, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s.ca: %s: %w", field, t.CA, errNoCert)
		}
	}
	if t.Cert == "" && t.Key == "" {
		return c, nil
	}
	pair, err := from.pair(field, t.Cert, t.Key)
	c.Certificates = []tls.Certificate{pair}
	return c, err
}

// serverNameForm is what names in certificates look like: DNS names and addresses.
var serverNameForm = regexp.MustCompile(`^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9a-fA-F:.]+)$`)

var errNoCert = errors.New("want certificates (PEM), found none")

// pair reads a certificate and its key.
func (fs *files) pair(field, cert, key string) (pair tls.Certificate, err error) {
	for _, f := range []struct{ is, name string }{{cert, "cert"}, {key, "key"}} {
		if f.is == "" {
			return pair, fmt.Errorf("%s.%s: want a file: a certificate needs its key", field, f.name)
		}
	}
	certPEM, err := fs.read(cert)
	if err != nil {
		return pair, fmt.Errorf("%s.cert: %w", field, err)
	}
	keyPEM, err := fs.secret(key)
	if err != nil {
		return pair, fmt.Errorf("%s.key: %w", field, err)
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return pair, fmt.Errorf("%s: %s and %s: %w", field, cert, key, err)
	}
	return pair, nil
}
