// Package apikey knows API keys by their hashes, and makes new ones.
//
// The gateway asks it who calls; cmd/rota/internal/gatewayfile reads its files and makes keys. It
// must never keep a key. Keys are random and long, so a plain SHA-256 of each is enough.
package apikey

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// MaxKeys is the most keys of one set.
const MaxKeys = 10_000

// Hash is the SHA-256 of a key.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// HashOf is the hash of a key.
func HashOf(key []byte) Hash { return sha256.Sum256(key) }

// ParseHash reads a hash of 64 hexadecimal digits.
func ParseHash(s string) (h Hash, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, errors.New("want the SHA-256 of a key, 64 hexadecimal digits")
	}
	return Hash(b), nil
}

// New makes a key.
func New() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// nameForm is what names of keys look like: they are logged.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,64}$`)

// CheckName returns an error if s cannot be the name of a key.
func CheckName(s string) error {
	if !nameForm.MatchString(s) {
		return fmt.Errorf("%.80q: want a name of at most 64 letters, digits, '.', '_', '@' and '-'", s)
	}
	return nil
}

// Parse reads a file of keys: a name and a hash on each line. A name may have several
// keys. Empty lines and those that begin with # mean nothing. The error names the line.
func Parse(b []byte) (names Set, err error) {
	names = Set{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if len(words) != 2 {
			return nil, fmt.Errorf("line %d: want a name and the SHA-256 of its key", n)
		}
		if err := CheckName(words[0]); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		h, err := ParseHash(words[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if names[h] != "" {
			return nil, fmt.Errorf("line %d: this key is %s's already", n, names[h])
		}
		if len(names) == MaxKeys {
			return nil, fmt.Errorf("line %d: more than %d keys", n, MaxKeys)
		}
		names[h] = words[0]
	}
	if err := lines.Err(); err != nil {
		return nil, errors.New("a line is too long")
	}
	if len(names) == 0 {
		return nil, errors.New("want at least one key, there is none in it")
	}
	return names, nil
}

// Set are the keys that may be used: names by the hashes of keys.
//
// A key is found by its hash in a map. How long that takes may tell something of the hash,
// which is nothing that helps to find a key: keys are random, and SHA-256 is one-way.
type Set map[Hash]string

// Name is whose key that is.
func (s Set) Name(key []byte) (name string, ok bool) {
	name, ok = s[HashOf(key)]
	return name, ok
}
