package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/wholefile"
)

// checkEvery is how often files are looked at, at most.
const checkEvery = time.Second

// Files are the PEM files of one side of a connection.
type Files struct {
	CA   string // bundle that signs the other side's certificates
	Cert string // this side's certificate, with what leads to the authority
	Key  string // its key
	// Revoked lists certificates of the other side that are good no more, see
	// Revocation. Empty: none.
	Revoked string
}

// Source holds what the files say, and reads them again when they change. A
// change that cannot be read leaves what was, and Err says why.
type Source struct {
	files Files

	// now is the clock of how often files are looked at.
	now func() time.Time

	mu      sync.Mutex
	checked time.Time
	seen    [4]stamp
	cert    *tls.Certificate
	roots   *x509.CertPool
	revoked *revoked
	err     error
	log     *slog.Logger         // of refusals; nil: nobody is told
	told    map[string]time.Time // of which certificates by serial number, and when
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

// Hosts are the DNS names under which this side is reached, by its certificate.
func (s *Source) Hosts() []string {
	cert, _ := s.current()
	if cert == nil || cert.Leaf == nil {
		return nil
	}
	return hosts(cert.Leaf)
}

func (s *Source) stamps() (out [4]stamp) {
	for i, path := range []string{s.files.CA, s.files.Cert, s.files.Key, s.files.Revoked} {
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
		b, err := wholefile.Read(s.files.CA, wholefile.Most)
		if err != nil {
			return fmt.Errorf("tls: authority: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(b) {
			return fmt.Errorf("tls: authority: %s: no certificate in PEM", s.files.CA)
		}
	}
	var list *revoked
	if s.files.Revoked != "" {
		var err error
		if list, err = readRevoked(s.files.Revoked); err != nil {
			return err
		}
	}
	s.cert, s.roots, s.revoked = cert, roots, list
	return nil
}

// ErrRevoked says that the other side's certificate is on the list.
var ErrRevoked = errors.New("tls: the certificate is revoked")

// ErrEnded says that the time of the other side's certificate is over.
var ErrEnded = errors.New("tls: the certificate has expired")

// Verify is nil if what a handshake found out about the other side is good now: it
// showed no certificate, or one that neither has ended nor was revoked, nor any
// that vouches for it. Handshakes of Server and Client ask it, and connections
// that are open are closed when it fails, see Watch.
func (s *Source) Verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	s.refresh()
	s.mu.Lock()
	list := s.revoked
	s.mu.Unlock()
	chains := state.VerifiedChains
	if len(chains) == 0 {
		chains = [][]*x509.Certificate{state.PeerCertificates}
	}
	var err error
	for _, chain := range chains {
		if err = verifyChain(chain, list, time.Now()); err == nil {
			return nil
		}
	}
	s.tell(state.PeerCertificates[0], err)
	return err
}

// TellRefusals has it logged which certificates Verify refuses, and why: the other
// side learns no more than that its certificate is bad.
func (s *Source) TellRefusals(log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.told = log, map[string]time.Time{}
}

// Of each certificate a refusal is told once in so long, and of so many certificates.
const (
	tellEvery = time.Minute
	maxTold   = 1000
)

func (s *Source) tell(cert *x509.Certificate, why error) {
	serial := cert.SerialNumber.Text(16)
	s.mu.Lock()
	log, now := s.log, s.now()
	if log == nil || now.Sub(s.told[serial]) < tellEvery {
		s.mu.Unlock()
		return
	}
	if len(s.told) >= maxTold {
		clear(s.told)
	}
	s.told[serial] = now
	s.mu.Unlock()
	reason := "ended"
	if errors.Is(why, ErrRevoked) {
		reason = "revoked"
	}
	o := ownerOf(cert)
	log.Warn("certificate refused", "reason", reason, "role", string(o.role), "name", text.Clip(o.name, text.Short), "serial", serial, "error", why)
}

func verifyChain(chain []*x509.Certificate, list *revoked, now time.Time) error {
	for _, cert := range chain {
		if now.After(cert.NotAfter) {
			return fmt.Errorf("%w: %s on %s", ErrEnded, text.Clip(cert.Subject.CommonName, text.Short), cert.NotAfter.UTC().Format(time.RFC3339))
		}
		if list.has(cert) {
			return fmt.Errorf("%w: %s, serial %s", ErrRevoked, text.Clip(cert.Subject.CommonName, text.Short), cert.SerialNumber.Text(16))
		}
	}
	return nil
}

// KeyPair reads a certificate, with what leads to its authority, and its key,
// which nobody else may read.
func KeyPair(cert, key string) (tls.Certificate, error) {
	c, err := wholefile.Read(cert, wholefile.Most)
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
		return nil, &rota.FieldError{Field: "tls-ca", Value: "", Want: "a CA bundle that signs the clients' certificates"}
	}
	base := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protocols, VerifyConnection: s.Verify}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		cert, roots := s.current()
		c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protocols, Certificates: []tls.Certificate{*cert}, VerifyConnection: s.Verify}
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
		MinVersion: tls.VersionTLS13, NextProtos: protocols, ServerName: serverName, RootCAs: roots, VerifyConnection: s.Verify,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert, _ := s.current(); cert != nil {
				return cert, nil
			}
			return &tls.Certificate{}, nil
		},
	}
}
