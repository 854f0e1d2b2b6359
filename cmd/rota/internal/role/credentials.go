package role

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/internal/auth/devcluster"
	"github.com/rota-project/rota/internal/origin"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/scheduler/server"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// reloadEvery is how often files of credentials are looked at.
const reloadEvery = 500 * time.Millisecond

// secure fills in what a scheduler listens and asks with. Files are followed
// until ctx ends.
func secure(ctx context.Context, c *config.Scheduler, s *server.Config, log *slog.Logger) error {
	s.Namespace, s.Hosts = c.Namespace, slices.Clone(c.Hosts)
	for _, a := range []string{c.AdvertiseHTTP, c.AdvertiseGRPC} {
		if a != "" {
			s.Hosts = append(s.Hosts, origin.Name(a))
		}
	}
	s.AdvertiseGRPC, s.AdvertiseHTTP = c.AdvertiseGRPC, c.AdvertiseHTTP
	if c.TLS {
		src, err := pki.Load(pki.Files{CA: c.TLSCA, Cert: c.TLSCert, Key: c.TLSKey, Revoked: c.TLSRevoked})
		if err != nil {
			return err
		}
		if s.TLS, err = src.Server(false, "h2"); err != nil {
			return err
		}
		if !auth.Loopback(c.HTTP) {
			if s.HTTPTLS, err = src.Server(false, "h2", "http/1.1"); err != nil {
				return err
			}
		}
		s.Dial, s.CallTLS = src.Credentials(""), src.CallClient
		if s.GatewayTLS, err = src.Server(false, "h2", "http/1.1"); err != nil {
			return err
		}
		s.Hosts = append(s.Hosts, src.Hosts()...) // whom a browser asks for by these has seen the certificate
		followCertificates(ctx, log, src, false)
	}
	if c.Tokens == "" && c.OIDC.Issuer == "" {
		return nil // whoever is on this machine is an admin; config holds it to loopback
	}
	s.Authenticator = &auth.Authenticator{Tokens: &auth.Tokens{}, Names: pki.Names}
	if s.TLS != nil {
		s.Authenticator.Verify = s.TLS.VerifyConnection
	}
	if c.Tokens != "" {
		file, err := auth.OpenTokenFile(c.Tokens, s.Authenticator.Tokens)
		if err != nil {
			return err
		}
		follow(ctx, log, "tokens", func() error {
			changed, err := file.Reload(s.Authenticator.Tokens)
			if changed {
				log.Info("tokens reloaded", "tokens", s.Authenticator.Tokens.Len())
			}
			return err
		})
	}
	if len(c.ClientRoles) > 0 {
		clients, err := roles(c.ClientRoles)
		if err != nil {
			return err
		}
		s.Authenticator.Clients = func(cert *x509.Certificate) (string, auth.Role) {
			name := pki.ClientName(cert)
			return name, clients[name]
		}
	}
	s.SessionLife = c.SessionLife
	return vouched(ctx, c.OIDC, s)
}

// vouched has callers taken whom an issuer vouches for, and people sign in there.
func vouched(ctx context.Context, c config.OIDC, s *server.Config) error {
	if c.Issuer == "" {
		return nil
	}
	of, err := roles(c.Roles)
	if err != nil {
		return err
	}
	conf := auth.JWTConfig{
		Issuer: c.Issuer, Audience: c.Audience, Keys: c.Keys, RoleClaim: c.RoleClaim, Roles: of,
		NameClaim: c.NameClaim, NamespaceClaim: c.NamespaceClaim, KindClaim: c.KindClaim,
	}
	if c.Audience != "" {
		if s.Authenticator.JWT, err = auth.NewJWT(ctx, conf); err != nil {
			return err
		}
	}
	if c.ClientID == "" {
		return nil
	}
	flow := auth.CodeFlowConfig{ClientID: c.ClientID, RedirectURL: c.RedirectURL}
	if c.ClientSecretFile != "" {
		text, err := secretfile.Read(c.ClientSecretFile)
		if err != nil {
			return err
		}
		flow.Secret = auth.Secret(strings.TrimSpace(string(text)))
	}
	s.CodeFlow, err = auth.NewCodeFlow(ctx, conf, flow)
	return err
}

// roles are those that names stand for; nil if there are none.
func roles(names map[string]string) (out map[string]auth.Role, err error) {
	for value, name := range names {
		if out == nil {
			out = map[string]auth.Role{}
		}
		if out[value], err = auth.ParseRole(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// followCertificates says when files cannot be read again, and when the
// certificate ends soon.
//
// renewed says that it is renewed in time without anybody's doing.
func followCertificates(ctx context.Context, log *slog.Logger, src *pki.Source, renewed bool) {
	src.TellRefusals(log)
	var r pki.Reminder
	follow(ctx, log, "certificates", func() error {
		switch end := src.Expires(); {
		case renewed || !r.Due(end, time.Now()):
		case time.Now().After(end):
			log.Error("the certificate has expired: rota cert renew", "ended", end)
		default:
			log.Warn("the certificate expires soon: rota cert renew", "ends", end)
		}
		return src.Err()
	})
}

// follow calls look now and then, and says when it begins or ceases to fail.
func follow(ctx context.Context, log *slog.Logger, what string, look func() error) {
	go func() {
		ticker := time.NewTicker(reloadEvery)
		defer ticker.Stop()
		last := ""
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			text := ""
			if err := look(); err != nil {
				text = err.Error()
			}
			if text != "" && text != last {
				log.Error(what+" cannot be reloaded; the old content stays in effect", "error", text)
			}
			last = text
		}
	}()
}

// towards is how a worker secures its connections to schedulers.
type towards struct{ source *pki.Source }

func newTowards(c *config.Worker) (*towards, error) {
	if c.TLSCA == "" {
		if src, err := devcluster.WorkerSource(os.LookupEnv, c.Name, c.Schedulers); src != nil || err != nil {
			return &towards{src}, err
		}
		for _, a := range c.Schedulers {
			if !auth.Loopback(a) {
				return nil, fmt.Errorf("scheduler %s is on another machine: want --tls-ca, --tls-cert and --tls-key", a)
			}
		}
		return &towards{}, nil
	}
	src, err := pki.Load(pki.Files{CA: c.TLSCA, Cert: c.TLSCert, Key: c.TLSKey, Revoked: c.TLSRevoked})
	if err != nil {
		return nil, err
	}
	return &towards{src}, nil
}

// dialTLS fits worker.Config; it is nil without TLS.
func (t *towards) dialTLS() func() *tls.Config {
	if t.source == nil {
		return nil
	}
	return func() *tls.Config { return t.source.Client("", "h2") }
}

func (t *towards) credentials() credentials.TransportCredentials {
	if t.source == nil {
		return insecure.NewCredentials()
	}
	return t.source.Credentials("")
}
