package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// A token reads "rota_ID_SECRET_CHECK": the id names its record, the secret is
// 32 random bytes, the check tells one that was cut short from one that is wrong.
const tokenPrefix = "rota_"

// Errors of a token. Callers get the same answer for all of them except ErrTokenShape.
var (
	// ErrTokenShape means that the text is not a complete token.
	ErrTokenShape = errors.New("incomplete token: it was truncated or mistyped")
	// ErrTokenUnknown means that the token does not exist, or that its secret is wrong.
	ErrTokenUnknown = errors.New("no such token")
	// ErrTokenExpired means that the token has expired.
	ErrTokenExpired = errors.New("the token has expired")
	// ErrTokenRevoked means that the token was revoked.
	ErrTokenRevoked = errors.New("the token was revoked")
)

// Token is the record of a token: everything but its secret.
type Token struct {
	ID   string `json:"id"`
	Name string `json:"name"` // who or what uses it, for people and the audit log
	Role Role   `json:"role"`
	// Namespaces in which the token is valid. Empty means all.
	Namespaces []string `json:"namespaces,omitempty"`
	// Kinds are patterns of the kinds of task that it may declare, see matchKind.
	// Empty means all that its role may.
	Kinds   []string  `json:"kinds,omitempty"`
	Hash    Hash      `json:"hash"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
	Revoked time.Time `json:"revoked,omitzero"` // zero: it was not
}

// Hash is the SHA-256 of a token's secret. The secret has 256 random bits, so a
// slow hash would add nothing but load.
type Hash [sha256.Size]byte

// MarshalText writes it in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h[:])), nil }

// UnmarshalText reads it in hexadecimal.
func (h *Hash) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(h[:], b); err != nil || n != len(h) || len(b) != 2*len(h) {
		return &rota.FieldError{Field: "hash", Value: text.Clip(string(b), text.Short), Want: "64 hexadecimal digits"}
	}
	return nil
}

// NewToken makes a token. It returns the record to store, with ID, Hash and Created set,
// and the token's text, which is shown once.
func NewToken(t Token, now time.Time) (Token, Secret, error) {
	if err := t.Validate(); err != nil {
		return Token{}, "", err
	}
	if !t.Expires.IsZero() && !now.Before(t.Expires) {
		return Token{}, "", &rota.FieldError{Field: "expires", Value: t.Expires.Format(time.RFC3339), Want: "a time in the future"}
	}
	var raw [8 + 32]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	t.ID, t.Created = hex.EncodeToString(raw[:8]), now.UTC()
	secret := base64.RawURLEncoding.EncodeToString(raw[8:])
	t.Hash = sha256.Sum256([]byte(secret))
	body := tokenPrefix + t.ID + "_" + secret
	return t, Secret(body + "_" + check(body)), nil
}

// Validate returns a *rota.FieldError for the first invalid field.
func (t Token) Validate() error {
	if t.Name == "" || len(t.Name) > rota.MaxIDLen || strings.ContainsFunc(t.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return &rota.FieldError{Field: "name", Value: text.Clip(t.Name, text.Short), Want: fmt.Sprintf("1 to %d printable bytes", rota.MaxIDLen)}
	}
	if t.Role == Nobody || t.Role > Admin {
		return &rota.FieldError{Field: "role", Value: t.Role.String(), Want: "viewer, submitter, operator or admin"}
	}
	if len(t.Namespaces) > rota.MaxRules {
		return &rota.FieldError{Field: "namespaces", Value: len(t.Namespaces), Want: fmt.Sprintf("at most %d names", rota.MaxRules)}
	}
	for _, ns := range t.Namespaces {
		if err := CheckNamespace("namespaces", ns); err != nil {
			return err
		}
	}
	return checkKinds(t.Kinds)
}

// maxNamespace is the longest name of a namespace, in bytes.
const maxNamespace = 63

// CheckNamespace returns a *rota.FieldError unless s is a valid name of a namespace:
// letters, digits, - and _.
func CheckNamespace(field, s string) error {
	if s == "" || len(s) > maxNamespace || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return &rota.FieldError{Field: field, Value: text.Clip(s, text.Short), Want: fmt.Sprintf("1 to %d letters, digits, - and _", maxNamespace)}
	}
	return nil
}

// identity is who shows the token.
func (t Token) identity() Identity {
	return Identity{Kind: ByToken, ID: t.ID, Name: t.Name, Role: t.Role, Namespaces: t.Namespaces, Kinds: t.Kinds, Expires: t.Expires}
}

func check(body string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body))) }

// splitToken takes the text of a token apart.
func splitToken(s Secret) (id, secret string, err error) {
	text := s.Reveal()
	i := strings.LastIndexByte(text, '_')
	if i < 0 || !strings.HasPrefix(text, tokenPrefix) || text[i+1:] != check(text[:i]) {
		return "", "", ErrTokenShape
	}
	id, secret, ok := strings.Cut(text[len(tokenPrefix):i], "_")
	if !ok || id == "" {
		return "", "", ErrTokenShape
	}
	return id, secret, nil
}

// isToken reports whether the text looks like one of our tokens, complete or not.
func isToken(s Secret) bool { return strings.HasPrefix(s.Reveal(), tokenPrefix) }

// verify holds the secret to the record, in constant time.
func (t Token) verify(secret string, now time.Time) error {
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], t.Hash[:]) != 1 {
		return ErrTokenUnknown
	}
	return t.ended(now)
}

// ended is why the token is good no more, or nil.
func (t Token) ended(now time.Time) error {
	switch {
	case !t.Revoked.IsZero():
		return ErrTokenRevoked
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return ErrTokenExpired
	}
	return nil
}
