package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/userdir"
	"github.com/rota-project/rota/internal/wholefile"
)

// Role is what a certificate is for.
type Role string

// The roles of certificates.
const (
	Scheduler Role = "scheduler" // serves workers and clients, dials etcd
	Worker    Role = "worker"    // dials schedulers; serves old schedulers if it is given hosts
	Client    Role = "client"    // dials schedulers; what it may do is a token's affair
	Etcd      Role = "etcd"      // serves and dials etcd
)

// How long certificates are good.
const (
	DefaultAuthorityLife = 10 * 365 * 24 * time.Hour
	DefaultLife          = 90 * 24 * time.Hour
	MaxLife              = 825 * 24 * time.Hour
	// backdate is for peers whose clock is a little behind.
	backdate = 5 * time.Minute
)

// Names of files in an authority's directory.
const (
	CAFile  = "ca.crt"
	caKey   = "ca.key"
	certExt = ".crt"
	keyExt  = ".key"
)

// Request says what to issue.
type Request struct {
	Role Role
	// Name is the worker's or scheduler's name in the cluster.
	Name string
	// Hosts are DNS names and addresses under which it is reached.
	Hosts []string
	// Life is how long it is good. Zero means DefaultLife.
	Life time.Duration
}

// Certificate is what is known of an issued certificate.
type Certificate struct {
	Role    Role      `json:"role"`
	Name    string    `json:"name"`
	File    string    `json:"file"`
	Key     string    `json:"key"`
	Hosts   []string  `json:"hosts"`
	Serial  string    `json:"serial"`
	Issuer  string    `json:"issuer"`
	From    time.Time `json:"not_before"`
	Expires time.Time `json:"not_after"`
	// Revoked says that it is on the list of its directory; only List sets it.
	Revoked bool `json:"revoked,omitempty"`
}

// Left is how long it is still good; below zero it has expired.
func (c Certificate) Left(now time.Time) time.Duration { return c.Expires.Sub(now) }

// Init makes an authority in dir, which is made. It never writes over one.
func Init(dir, name string, life time.Duration, now time.Time) (Certificate, error) {
	if name == "" {
		name = "rota"
	}
	if life == 0 {
		life = DefaultAuthorityLife
	}
	if err := userdir.Make(dir); err != nil {
		return Certificate{}, fmt.Errorf("pki: %w", err)
	}
	for _, f := range []string{CAFile, caKey} {
		if _, err := os.Lstat(filepath.Join(dir, f)); !errors.Is(err, fs.ErrNotExist) {
			return Certificate{}, fmt.Errorf("pki: %s: an authority already exists: %w", filepath.Join(dir, f), fs.ErrExist)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, fmt.Errorf("pki: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name + " authority", Organization: []string{"rota"}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Certificate{}, fmt.Errorf("pki: %w", err)
	}
	if err := writeKey(filepath.Join(dir, caKey), key); err != nil {
		return Certificate{}, err
	}
	if err := writePEM(filepath.Join(dir, CAFile), "CERTIFICATE", der, 0o644); err != nil {
		return Certificate{}, err
	}
	// There from the start, so that whoever is to follow it can.
	list := filepath.Join(dir, RevokedFile)
	if _, err := os.Lstat(list); errors.Is(err, fs.ErrNotExist) {
		if err := replace(list, []byte(revokedHead), 0o644); err != nil {
			return Certificate{}, err
		}
	}
	return Show(filepath.Join(dir, CAFile))
}

// Issue makes a key and a certificate in dir, ROLE-NAME.crt and .key, in place
// of those that may be there.
func Issue(dir string, r Request, now time.Time) (Certificate, error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, fmt.Errorf("pki: %w", err)
	}
	der, err := sign(dir, r, own.Public(), now)
	if err != nil {
		return Certificate{}, err
	}
	base := filepath.Join(dir, r.file())
	// The key first: whoever reads between the two finds a pair that does not
	// match, and keeps the one that it has.
	if err := writeKey(base+keyExt, own); err != nil {
		return Certificate{}, err
	}
	if err := writePEM(base+certExt, "CERTIFICATE", der, 0o644); err != nil {
		return Certificate{}, err
	}
	return Show(base + certExt)
}

// Sign makes a certificate for a public key (PKIX, DER) whose private part this
// process does not have, by the authority in dir, and answers it in PEM.
func Sign(dir string, r Request, publicKey []byte, now time.Time) ([]byte, error) {
	pub, err := x509.ParsePKIXPublicKey(publicKey)
	if err != nil {
		return nil, &rota.FieldError{Field: "public_key", Value: fmt.Sprintf("%d bytes", len(publicKey)), Want: "a public key (PKIX, DER)"}
	}
	if k, ok := pub.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, &rota.FieldError{Field: "public_key", Value: fmt.Sprintf("%T", pub), Want: "a key of ECDSA on P-256"}
	}
	der, err := sign(dir, r, pub, now)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// NewKey makes a key: its public part (PKIX, DER), for Sign, and all of it in PEM.
func NewKey() (public, private []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: %w", err)
	}
	if public, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, nil, fmt.Errorf("pki: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: %w", err)
	}
	return public, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Replace puts a certificate and its key, both in PEM, in place of those in two files.
func Replace(certFile, keyFile string, cert, key []byte) error {
	if err := replace(keyFile, key, 0o600); err != nil { // the key first, as in Issue
		return err
	}
	return replace(certFile, cert, 0o644)
}

// CheckAuthority is nil if Sign would find an authority in dir, whose key nobody else
// may read.
func CheckAuthority(dir string, now time.Time) error {
	_, _, err := authority(dir, now)
	return err
}

func sign(dir string, r Request, pub crypto.PublicKey, now time.Time) (der []byte, err error) {
	template, err := r.template(now)
	if err != nil {
		return nil, err
	}
	ca, key, err := authority(dir, now)
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(ca.NotAfter) {
		template.NotAfter = ca.NotAfter
	}
	if err := afterRevocation(dir, template, now); err != nil {
		return nil, err
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, ca, pub, key); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	return der, nil
}

// Renew issues once more what a certificate in dir says, for as long as it was
// good for.
func Renew(dir string, role Role, name string, now time.Time) (Certificate, error) {
	r := Request{Role: role, Name: name}
	if err := r.checkName(); err != nil {
		return Certificate{}, err
	}
	old, err := Show(filepath.Join(dir, r.file()+certExt))
	if err != nil {
		return Certificate{}, err
	}
	r.Hosts = old.Hosts
	r.Life = min(old.Expires.Sub(old.From)-backdate, MaxLife)
	return Issue(dir, r, now)
}

// List shows all certificates in dir, the one that ends first before others.
func List(dir string) ([]Certificate, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+certExt))
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	list, err := readRevoked(filepath.Join(dir, RevokedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []Certificate
	for _, f := range files {
		cert, err := readCert(f)
		if err != nil {
			return nil, err
		}
		c := show(f, cert)
		c.Revoked = list.has(cert)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Certificate) int { return a.Expires.Compare(b.Expires) })
	return out, nil
}

// Show reads one certificate of anybody's making.
func Show(path string) (Certificate, error) {
	cert, err := readCert(path)
	if err != nil {
		return Certificate{}, err
	}
	return show(path, cert), nil
}

func show(path string, cert *x509.Certificate) Certificate {
	c := Certificate{
		File: path, Serial: cert.SerialNumber.Text(16), Issuer: cert.Issuer.CommonName,
		From: cert.NotBefore.UTC(), Expires: cert.NotAfter.UTC(), Hosts: hosts(cert), Name: cert.Subject.CommonName,
	}
	for _, ip := range cert.IPAddresses {
		c.Hosts = append(c.Hosts, ip.String())
	}
	if key := strings.TrimSuffix(path, certExt) + keyExt; key != path {
		if _, err := os.Stat(key); err == nil {
			c.Key = key
		}
	}
	o := ownerOf(cert)
	c.Role, c.Name = o.role, o.name
	if cert.IsCA {
		c.Role = "authority"
	}
	return c
}

func (r Request) file() string { return string(r.Role) + "-" + url.PathEscape(r.Name) }

func (r Request) checkName() error {
	if err := (rota.Worker{Name: r.Name}).Validate(); err != nil || strings.ContainsAny(r.Name, "/\\") || r.Name == ".." {
		return &rota.FieldError{Field: "name", Value: text.Clip(r.Name, text.Short), Want: "a name without white space or slashes"}
	}
	return nil
}

func (r Request) template(now time.Time) (*x509.Certificate, error) {
	if err := r.checkName(); err != nil {
		return nil, err
	}
	if r.Life == 0 {
		r.Life = DefaultLife
	}
	if r.Life < time.Minute || r.Life > MaxLife {
		return nil, &rota.FieldError{Field: "life", Value: r.Life.String(), Want: fmt.Sprintf("1m to %v", MaxLife)}
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: text.Clip(r.Name, text.Short), Organization: []string{"rota"}, OrganizationalUnit: []string{string(r.Role)}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(r.Life),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	for _, h := range r.Hosts {
		if ip, err := netip.ParseAddr(h); err == nil {
			t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
		} else if validHost(h) && !reservedHost(h) {
			t.DNSNames = append(t.DNSNames, h)
		} else {
			return nil, &rota.FieldError{Field: "hosts", Value: text.Clip(h, text.Short), Want: "DNS names and addresses"}
		}
	}
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	switch r.Role {
	case Scheduler, Etcd:
		if len(r.Hosts) == 0 {
			return nil, &rota.FieldError{Field: "hosts", Value: "", Want: "the host names and addresses of the server; they are missing"}
		}
		t.ExtKeyUsage = []x509.ExtKeyUsage{server, client}
	case Worker:
		t.ExtKeyUsage = []x509.ExtKeyUsage{client}
		if len(r.Hosts) > 0 {
			t.ExtKeyUsage = append(t.ExtKeyUsage, server)
		}
	case Client:
		t.ExtKeyUsage = []x509.ExtKeyUsage{client}
	default:
		return nil, &rota.FieldError{Field: "role", Value: string(r.Role), Want: "scheduler, worker, client or etcd"}
	}
	if r.Role == Scheduler {
		t.DNSNames = append(t.DNSNames, SchedulerHost)
	}
	if r.Role == Scheduler || r.Role == Worker {
		t.URIs = []*url.URL{{Scheme: "rota", Host: string(r.Role), Path: "/" + r.Name}}
	}
	return t, nil
}

func validHost(h string) bool {
	h = strings.TrimPrefix(h, "*.")
	if h == "" || len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// Names reads who a certificate belongs to; both are zero if it is neither a
// worker's nor a scheduler's. It fits auth.Authenticator.
func Names(cert *x509.Certificate) (worker string, scheduler bool) {
	role, name, ok := identity(cert)
	switch {
	case ok && role == Worker:
		return name, false
	case ok && role == Scheduler:
		return "", true
	}
	return "", false
}

// identity finds the name that a certificate is bound to. One that says two is
// bound to none.
func identity(cert *x509.Certificate) (role Role, name string, ok bool) {
	for _, u := range cert.URIs {
		var r, n string
		switch u.Scheme {
		case "rota":
			r, n = u.Host, strings.TrimPrefix(u.Path, "/")
		case "spiffe":
			parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
			if len(parts) < 2 {
				continue
			}
			r, n = parts[len(parts)-2], parts[len(parts)-1]
		default:
			continue
		}
		if n == "" || strings.Contains(n, "/") || r != string(Worker) && r != string(Scheduler) {
			continue
		}
		if ok {
			return "", "", false
		}
		role, name, ok = Role(r), n, true
	}
	return role, name, ok
}

// ClientName is the name of a client's certificate, its subject's common name. It is
// empty for one that says to be anything else.
func ClientName(cert *x509.Certificate) string {
	for _, u := range cert.URIs {
		if u.Scheme == "rota" {
			return ""
		}
	}
	if o := ownerOf(cert); o.role == Client {
		return o.name
	}
	return ""
}

// authority reads the authority's certificate and key.
func authority(dir string, now time.Time) (*x509.Certificate, crypto.Signer, error) {
	cert, err := readCert(filepath.Join(dir, CAFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("pki: no authority in %s: make one with rota cert init: %w", dir, err)
	}
	if err != nil {
		return nil, nil, err
	}
	if now.After(cert.NotAfter) {
		return nil, nil, fmt.Errorf("pki: the authority expired on %s", cert.NotAfter.UTC().Format(time.DateOnly))
	}
	path := filepath.Join(dir, caKey)
	b, err := secretfile.Read(path)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, nil, fmt.Errorf("pki: %s: no PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("pki: %s: not a signing key", path)
	}
	return cert, signer, nil
}

func readCert(path string) (*x509.Certificate, error) {
	b, err := wholefile.Read(path, wholefile.Most)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("pki: %s: no certificate in PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", path, err)
	}
	return cert, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	return replace(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// replace puts a file in place of another in one step.
func replace(path string, text []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".pki-") // readable by its owner only
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return nil
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}
