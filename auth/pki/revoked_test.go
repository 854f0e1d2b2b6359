package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
)

func TestRevokedList(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list")
	read := func(text string) (*revoked, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return readRevoked(path)
	}
	for text, want := range map[string]string{ // an error has it; "" is good
		"": "", "\n\n# nothing\n": "", "serial 1F:2a": "", "serial 0x001f2A # stolen\r\n": "", "worker w1": "", "worker #1 # odd": "",
		"worker w1 until 2030-01-31T12:00:00Z # why": "", "etcd e\nclient c\nscheduler s": "",
		"serial": "want", "serial xyz": "hexadecimal", "serial " + strings.Repeat("a", 41): "hexadecimal", "worker": "want",
		"workers w1": "scheduler, worker", "worker w1 w2": "want", "worker w1 until tomorrow": "a time", "worker w1 until": "want",
		"worker w1 since 2030-01-31T12:00:00Z": "want", "authority x": "scheduler, worker", "worker a\nserial 1\nx": "list:3",
	} {
		if _, err := read(text); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	r, err := read("serial 00:1F\nworker w1 until 2030-01-31T12:00:00Z\nworker w1 until 2029-01-31T12:00:00Z\nworker w2\nworker w2 until 2029-01-31T12:00:00Z\nclient c\n")
	if err != nil {
		t.Fatal(err)
	}
	cert := func(serial int64, role Role, name, from string) *x509.Certificate {
		c, err := Request{Role: role, Name: name, Hosts: []string{"h"}}.template(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c.SerialNumber = big.NewInt(serial)
		if c.NotBefore, err = time.Parse(time.RFC3339, from+"T12:00:00Z"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, c := range map[string]struct {
		cert *x509.Certificate
		want bool
	}{
		"serial":            {cert(0x1f, Scheduler, "s", "2020-01-01"), true},
		"another serial":    {cert(0x1f0, Scheduler, "s", "2020-01-01"), false},
		"until":             {cert(1, Worker, "w1", "2030-01-31"), true},
		"after":             {cert(1, Worker, "w1", "2030-02-01"), false},
		"for good":          {cert(1, Worker, "w2", "2099-01-01"), true},
		"another role":      {cert(1, Scheduler, "w2", "2020-01-01"), false},
		"another name":      {cert(1, Worker, "w22", "2020-01-01"), false},
		"a client by name":  {cert(1, Client, "c", "2020-01-01"), true},
		"a worker so named": {cert(1, Worker, "c", "2020-01-01"), false},
	} {
		if got := r.has(c.cert); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	var none *revoked
	if none.has(cert(1, Worker, "w", "2020-01-01")) {
		t.Error("on no list")
	}
}

// TestRevoke: what is revoked is refused, in the other direction too, and what is
// issued afterwards under the name is not, however soon.
func TestRevoke(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Init(dir, "test", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, RevokedFile)
	issue := func() *x509.Certificate {
		c, err := Issue(dir, Request{Role: Worker, Name: "w"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cert, err := readCert(c.File)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	src, err := Load(Files{CA: filepath.Join(dir, CAFile), Revoked: list})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	src.now = func() time.Time { now = now.Add(checkEvery); return now } // each question looks at the files
	verify := func(cert *x509.Certificate) error {
		return src.Verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}})
	}
	for range 3 { // however fast one after the other
		cert := issue()
		if err := verify(cert); err != nil {
			t.Fatalf("issued just now: %v", err)
		}
		if _, err := Revoke(list, Revocation{Role: Worker, Name: "w"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := verify(cert); !errors.Is(err, ErrRevoked) {
			t.Errorf("revoked by name: %v", err)
		}
		if all, err := List(dir); err != nil || !all[0].Revoked {
			t.Errorf("the list of certificates has %+v, %v", all, err)
		}
	}
	cert := issue()
	if _, err := Revoke(list, Revocation{Serial: strings.ToUpper(cert.SerialNumber.Text(16))}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := verify(cert); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked by serial: %v", err)
	}
	other := issue()
	if err := src.Verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{other}, VerifiedChains: [][]*x509.Certificate{{other, cert}, {other}}}); err != nil {
		t.Errorf("one good chain of two: %v", err)
	}
	if err := src.Verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{other}, VerifiedChains: [][]*x509.Certificate{{other, cert}}}); !errors.Is(err, ErrRevoked) {
		t.Errorf("vouched for by a revoked one: %v", err)
	}
	if err := src.Verify(tls.ConnectionState{}); err != nil {
		t.Errorf("no certificate: %v", err)
	}

	// A list that cannot be read leaves what was, and one that is there again holds.
	good, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verify(cert); !errors.Is(err, ErrRevoked) || src.Err() == nil {
		t.Errorf("while the list is wrong: %v, %v", err, src.Err())
	}
	if _, err := Revoke(list, Revocation{Serial: "1"}, time.Now()); err == nil {
		t.Error("a line is added to a list that is wrong")
	}
	if _, err := Issue(dir, Request{Role: Worker, Name: "w"}, time.Now()); err == nil {
		t.Error("a certificate is issued beside a list that is wrong")
	}
	if err := os.WriteFile(list, append(good, "worker w\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verify(other); !errors.Is(err, ErrRevoked) || src.Err() != nil {
		t.Errorf("when the list is right again: %v, %v", err, src.Err())
	}
	if _, err := Issue(dir, Request{Role: Worker, Name: "w"}, time.Now()); err == nil || !strings.Contains(err.Error(), "remove the line") {
		t.Errorf("a certificate of a name that is revoked for good: %v", err)
	}
	for _, bad := range []Revocation{{}, {Serial: "g"}, {Role: "x", Name: "w"}, {Role: Worker, Name: "a b"}} {
		if _, err := Revoke(list, bad, time.Now()); err == nil {
			t.Errorf("%+v is revoked", bad)
		}
	}
	var fe *rota.FieldError
	if _, err := ParseSerial("zz"); !errors.As(err, &fe) || fe.Field != "serial" {
		t.Errorf("%v", err)
	}
	if _, err := Load(Files{CA: filepath.Join(dir, CAFile), Revoked: filepath.Join(dir, "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its list: %v", err)
	}
}

func FuzzRevocation(f *testing.F) {
	for _, s := range []string{"serial 1f", "worker w1 until 2030-01-31T12:00:00Z", "client #x # y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, ok, err := parseRevocation(line)
		if err != nil || !ok {
			return
		}
		again, ok, err := parseRevocation(e.String())
		if err != nil || !ok || again.String() != e.String() {
			t.Errorf("%q is %q, which is %q, %v", line, e, again, err)
		}
	})
}
