package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/credentials"

	"github.com/rota-project/rota/internal/secretfile"
)

// Environment variables in which clients look for their token. Tokens are never arguments.
const (
	EnvToken     = "ROTA_TOKEN"      // the token itself
	EnvTokenFile = "ROTA_TOKEN_FILE" //nolint:gosec // the name of a variable
)

// ErrNoTLS means that a token was not sent because others could read it.
var ErrNoTLS = errors.New("a token is sent only over TLS, or to this machine")

// ClientToken reads a client's token from file, or if that is empty from the file that
// ROTA_TOKEN_FILE names, or from ROTA_TOKEN. It returns an empty Secret if there is none. A
// file that other users can read is refused.
func ClientToken(file string, lookup func(string) (string, bool)) (Secret, error) {
	if file == "" {
		file, _ = lookup(EnvTokenFile)
	}
	if file == "" {
		v, _ := lookup(EnvToken)
		return Secret(strings.TrimSpace(v)), nil
	}
	b, err := secretfile.Read(file)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	s := Secret(strings.TrimSpace(string(b)))
	if s == "" || strings.ContainsAny(s.Reveal(), " \t\r\n") {
		return "", fmt.Errorf("token: %s: want one token and nothing else", file)
	}
	return s, nil
}

// PerRPC returns credentials that send the token with each call. secure means that the
// connection has TLS or does not leave this machine; if it is false, calls fail with
// ErrNoTLS.
func PerRPC(token Secret, secure bool) credentials.PerRPCCredentials {
	return perRPC{token, secure}
}

type perRPC struct {
	token  Secret
	secure bool
}

func (p perRPC) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if !p.secure {
		return nil, ErrNoTLS
	}
	return map[string]string{"authorization": "Bearer " + p.token.Reveal()}, nil
}

// RequireTransportSecurity is false because loopback has none; secure is what counts.
func (p perRPC) RequireTransportSecurity() bool { return false }
