package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/secretfile"
)

// checkEvery is how often files are looked at, at most.
const checkEvery = time.Second

// Files are the PEM files of one side of a connection.
type Files struct {
	CA   string // who may vouch for the other side
	Cert string // this side's certificate, with what leads to the authority
	Key  string // its key
}

// Source holds what the files say, and reads them again when they change. A
// change that cannot be read leaves what was, and Err says why.
type Source struct {
	files Files

	// now is the clock of how often files are looked at.
	now func() time.Time

	mu      sync.Mutex
	checked time.Time
	seen    [3]stamp
	cert    *tls.Certificate
	roots   *x509.CertPool
	err     error
}

type stamp struct {
	mod  time.Time
	size int64
}

// Load reads the files. Cert and Key may both be empty for a client without a
// certificate; CA may be empty for the system's authorities (client) or for no
// client certificates (server).
func Load(f Files) (*Source, error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, &rota.FieldError{Field: "tls", Value: f.Cert + f.Key, Want: "a certificate and its key, or neither"}
	}
	s := &Source{files: f, now: time.Now}
	s.seen = s.stamps()
	s.checked = s.now()
	if err := s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

// Err is why the last change of the files was not taken over; nil if it was.
func (s *Source) Err() error {
	s.refresh()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Expires is the end of this side's certificate; zero if it has none.
func (s *Source) Expires() time.Time {
	cert, _ := s.current()
	if cert == nil || cert.Leaf == nil {
		return time.Time{}
	}
	return cert.Leaf.NotAfter
}

func (s *Source) stamps() (out [3]stamp) {
	for i, path := range []string{s.files.CA, s.files.Cert, s.files.Key} {
		if fi, err := os.Stat(path); err == nil {
			out[i] = stamp{fi.ModTime(), fi.Size()}
		}
	}
	return out
}

// refresh looks at the files, at most once a while.
func (s *Source) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.checked) < checkEvery {
		return
	}
	s.checked = now
	if seen := s.stamps(); seen != s.seen || s.err != nil {
		s.seen = seen
		s.err = s.read()
	}
}

func (s *Source) read() error {
	var cert *tls.Certificate
	if s.files.Cert != "" {
		pair, err := KeyPair(s.files.Cert, s.files.Key)
		if err != nil {
			return err
		}
		cert = &pair
	}
	var roots *x509.CertPool
	if s.files.CA != "" {
		b, err := os.ReadFile(s.files.CA)
		if err != nil {
			return fmt.Errorf("tls: authority: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(b) {
			return fmt.Errorf("tls: authority: %s: no certificate in PEM", s.files.CA)
		}
	}
	s.cert, s.roots = cert, roots
	return nil
}

// KeyPair reads a certificate, with what leads to its authority, and its key,
// which nobody else may read.
func KeyPair(cert, key string) (tls.Certificate, error) {
	c, err := os.ReadFile(cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls: certificate: %w", err)
	}
	k, err := secretfile.Read(key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls: key: %w", err)
	}
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls: %s and %s: %w", cert, key, err)
	}
	return pair, nil
}

func (s *Source) current() (*tls.Certificate, *x509.CertPool) {
	s.refresh()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cert, s.roots
}

// Server is the configuration of a listener: TLS 1.3, and a client certificate
// that is verified if the client shows one; require says that it must. protocols
// are for ALPN, "h2" for gRPC.
func (s *Source) Server(require bool, protocols ...string) (*tls.Config, error) {
	if cert, _ := s.current(); cert == nil {
		return nil, &rota.FieldError{Field: "tls-cert", Value: "", Want: "a certificate and its key; they are missing"}
	}
	if require && s.files.CA == "" {
		return nil, &rota.FieldError{Field: "tls-ca", Value: "", Want: "who may vouch for clients; it is missing"}
	}
	base := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protocols}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		cert, roots := s.current()
		c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protocols, Certificates: []tls.Certificate{*cert}}
		if roots != nil {
			c.ClientCAs, c.ClientAuth = roots, tls.VerifyClientCertIfGiven
		}
		if require {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return c, nil
	}
	// Some users of the configuration look for a certificate before they listen.
	base.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, _ := s.current()
		return cert, nil
	}
	return base, nil
}

// Client is the configuration of one dial, of now: TLS 1.3, the server's
// certificate verified against serverName, or the name that is dialled if that
// is empty. Make another for the next dial.
func (s *Source) Client(serverName string, protocols ...string) *tls.Config {
	_, roots := s.current()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols, ServerName: serverName, RootCAs: roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert, _ := s.current(); cert != nil {
				return cert, nil
			}
			return &tls.Certificate{}, nil
		},
	}
}

// Credentials are Client for each connection that a gRPC client makes.
func (s *Source) Credentials(serverName string) credentials.TransportCredentials {
	return &dialler{s, serverName}
}

type dialler struct {
	source     *Source
	serverName string
}

func (d *dialler) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(d.source.Client(d.serverName)).ClientHandshake(ctx, authority, conn)
}

func (d *dialler) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("tls: these credentials are a client's")
}

func (d *dialler) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (d *dialler) Clone() credentials.TransportCredentials {
	c := *d
	return &c
}

func (d *dialler) OverrideServerName(name string) error {
	d.serverName = name
	return nil
}
