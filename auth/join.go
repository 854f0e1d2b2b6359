package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// joinPrefix begins the text of a join token: "rotajoin_BODY_CHECK".
const joinPrefix = "rotajoin_"

// MaxJoinToken is the maximum size of a join token in bytes. The token arrives in one
// message of a caller without other credentials. It has room for a bundle of a dozen
// certificates.
const MaxJoinToken = 48 << 10

// JoinToken lets one worker of a pool join once. Its text tells the worker which schedulers
// to trust; only Secret is secret.
type JoinToken struct {
	Worker string `json:"worker"`
	Secret string `json:"secret"`
	// CA is the bundle that signs the schedulers' certificates (PEM). Empty: there is
	// no TLS, and only schedulers on loopback are trusted.
	CA string `json:"ca,omitempty"`
}

// NewJoinToken makes a token for a worker.
func NewJoinToken(worker, ca string) JoinToken {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	return JoinToken{Worker: worker, Secret: base64.RawURLEncoding.EncodeToString(raw[:]), CA: ca}
}

// Hash returns the hash of the token, which is what the store keeps.
func (t JoinToken) Hash() Hash { return sha256.Sum256([]byte(t.Worker + "\n" + t.Secret)) }

// Is reports, in constant time, whether hash is the token's.
func (t JoinToken) Is(hash []byte) bool {
	own := t.Hash()
	return subtle.ConstantTimeCompare(own[:], hash) == 1
}

// Text returns the token as it is handed to the worker.
func (t JoinToken) Text() Secret {
	body, _ := json.Marshal(t) //nolint:errchkjson,gosec // texts only, and this is what hands them over
	text := joinPrefix + base64.RawURLEncoding.EncodeToString(body)
	return Secret(text + "_" + check(text))
}

// ParseJoinToken reads the text of a token. The error is ErrTokenShape.
func ParseJoinToken(s Secret) (JoinToken, error) {
	text := strings.TrimSpace(s.Reveal())
	at := strings.LastIndexByte(text, '_')
	if len(text) > MaxJoinToken || !strings.HasPrefix(text, joinPrefix) || at < len(joinPrefix) || text[at+1:] != check(text[:at]) {
		return JoinToken{}, ErrTokenShape
	}
	body, err := base64.RawURLEncoding.DecodeString(text[len(joinPrefix):at])
	if err != nil {
		return JoinToken{}, ErrTokenShape
	}
	var t JoinToken
	if json.Unmarshal(body, &t) != nil || t.Worker == "" || t.Secret == "" {
		return JoinToken{}, ErrTokenShape
	}
	return t, nil
}
