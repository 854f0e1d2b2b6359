package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// RevokedFile is the name of the list of revoked certificates in an authority's
// directory.
const RevokedFile = "revoked"

// maxRevoked is the most bytes of such a list.
const maxRevoked = 8 << 20

// revokedHead is what a new list begins with.
const revokedHead = `# Certificates that are good no more, one entry a line:
#   serial 1F:2A:...                        one certificate
#   worker w1                               all of a name: worker, scheduler, client or etcd
#   worker w1 until 2030-01-31T12:00:00Z    those of a name that begin then or before
`

// Revocation is an entry of a list of revoked certificates: of one serial number,
// or of all certificates of a name, or of those of them that begin at Until or
// before.
type Revocation struct {
	Serial string // hexadecimal, in lower case without leading zeros; "" for a name
	Role   Role
	Name   string
	Until  time.Time // zero: all
}

// String is the entry as a line has it.
func (r Revocation) String() string {
	switch {
	case r.Serial != "":
		return "serial " + r.Serial
	case r.Until.IsZero():
		return string(r.Role) + " " + r.Name
	}
	return string(r.Role) + " " + r.Name + " until " + r.Until.UTC().Format(time.RFC3339)
}

// ParseSerial reads a serial number in hexadecimal, as openssl and others print it:
// with or without colons, "0x" and leading zeros, in either case.
func ParseSerial(s string) (string, error) {
	digits := strings.TrimLeft(strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(s, ":", "")), "0x"), "0")
	if s == "" || len(digits) > 40 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", &rota.FieldError{Field: "serial", Value: text.Clip(s, text.Short), Want: "up to 40 hexadecimal digits, as rota cert show prints them"}
	}
	if digits == "" {
		digits = "0"
	}
	return digits, nil
}

// revoked is a list of revoked certificates, ready to be asked. Nil is empty.
type revoked struct {
	serials map[string]struct{}
	names   map[owner]time.Time // until when; zero: all
}

// owner is whom a certificate belongs to.
type owner struct {
	role Role
	name string
}

// ownerOf is whom a certificate belongs to: by the name that it is bound to, else,
// for those of our own authority, by its subject.
func ownerOf(cert *x509.Certificate) owner {
	if role, name, ok := identity(cert); ok {
		return owner{role, name}
	}
	o := owner{Client, cert.Subject.CommonName}
	if units := cert.Subject.OrganizationalUnit; len(units) == 1 {
		o.role = Role(units[0])
	}
	return o
}

func (r *revoked) has(cert *x509.Certificate) bool {
	if r == nil {
		return false
	}
	if _, ok := r.serials[cert.SerialNumber.Text(16)]; ok {
		return true
	}
	until, ok := r.names[ownerOf(cert)]
	return ok && (until.IsZero() || !cert.NotBefore.After(until))
}

// readRevoked reads a list.
func readRevoked(path string) (*revoked, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("revoked: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxRevoked+1))
	if err != nil {
		return nil, fmt.Errorf("revoked: %w", err)
	}
	if len(text) > maxRevoked {
		return nil, fmt.Errorf("revoked: %s: more than %d bytes", path, maxRevoked)
	}
	r := &revoked{serials: map[string]struct{}{}, names: map[owner]time.Time{}}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		e, ok, err := parseRevocation(string(line))
		if err != nil {
			return nil, fmt.Errorf("revoked: %s:%d: %w", path, n, err)
		}
		switch {
		case !ok:
		case e.Serial != "":
			r.serials[e.Serial] = struct{}{}
		default:
			o := owner{e.Role, e.Name}
			if before, twice := r.names[o]; !twice || !before.IsZero() && (e.Until.IsZero() || e.Until.After(before)) {
				r.names[o] = e.Until
			}
		}
	}
	return r, nil
}

// parseRevocation reads a line; ok is false if nothing is on it.
func parseRevocation(line string) (e Revocation, ok bool, err error) {
	words := strings.Fields(line)
	for i, w := range words {
		if w[0] == '#' && i != 1 { // a name may begin so
			words = words[:i]
			break
		}
	}
	if len(words) == 0 {
		return e, false, nil
	}
	if len(words) == 2 && words[0] == "serial" {
		e.Serial, err = ParseSerial(words[1])
		return e, true, err
	}
	role := Role(words[0])
	switch role {
	case Scheduler, Worker, Client, Etcd:
	default:
		return e, false, fmt.Errorf("%q: want serial, scheduler, worker, client or etcd", text.Clip(words[0], text.Short))
	}
	switch {
	case len(words) == 2:
		return Revocation{Role: role, Name: words[1]}, true, nil
	case len(words) == 4 && words[2] == "until":
		until, err := time.Parse(time.RFC3339, words[3])
		if err != nil || until.IsZero() {
			return e, false, fmt.Errorf("%q: want a time, 2030-01-31T12:00:00Z", text.Clip(words[3], text.Short))
		}
		return Revocation{Role: role, Name: words[1], Until: until}, true, nil
	}
	return e, false, fmt.Errorf("want \"serial HEX\", \"%s NAME\" or \"%s NAME until TIME\"", role, role)
}

// Revoke adds an entry to a list, which is made if it is not there. Certificates of
// a name are revoked as far as they were issued before now, so that another one
// can be issued in their place: Until is filled in. It returns the entry.
func Revoke(path string, e Revocation, now time.Time) (Revocation, error) {
	list, err := readRevoked(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e, err
	}
	if e.Serial != "" {
		serial, err := ParseSerial(e.Serial)
		if err != nil {
			return e, err
		}
		e = Revocation{Serial: serial}
	} else {
		if err := (Request{Role: e.Role, Name: e.Name}).checkName(); err != nil {
			return e, err
		}
		e.Until = issuedBy(path, list, owner{e.Role, e.Name}, now)
	}
	if _, _, err := parseRevocation(e.String()); err != nil {
		return e, err
	}
	text := []byte(revokedHead)
	if list != nil {
		if text, err = os.ReadFile(path); err != nil {
			return e, fmt.Errorf("pki: %w", err)
		}
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return e, replace(path, append(text, e.String()+"\n"...), 0o644)
}

// issuedBy is the latest beginning of a certificate that was issued before now.
func issuedBy(path string, list *revoked, o owner, now time.Time) time.Time {
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), CAFile)); err != nil {
		return now.UTC().Truncate(time.Second) // another authority's
	}
	until := now.Add(-backdate)
	// One that took the place of those that were revoked a moment ago begins a little
	// later than others.
	if list != nil {
		if next := list.names[o].Add(time.Second); next.After(until) {
			until = next
		}
	}
	return until.UTC().Truncate(time.Second)
}

// afterRevocation moves the beginning of a certificate that is being issued behind
// the revocation of those before it. One whose name is revoked for good is refused.
func afterRevocation(dir string, t *x509.Certificate, now time.Time) error {
	path := filepath.Join(dir, RevokedFile)
	r, err := readRevoked(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	o := ownerOf(t)
	switch until, ok := r.names[o]; {
	case ok && (until.IsZero() || until.After(now)):
		return fmt.Errorf("pki: all certificates of %s %s are revoked: remove the line from %s first", o.role, o.name, path)
	case ok && !t.NotBefore.Truncate(time.Second).After(until):
		t.NotBefore = until.Add(time.Second)
	}
	return nil
}
