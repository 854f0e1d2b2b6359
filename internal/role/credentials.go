package role

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/config"
	"github.com/rota-project/rota/internal/devcluster"
	"github.com/rota-project/rota/internal/origin"
	"github.com/rota-project/rota/pki"
	"github.com/rota-project/rota/server"

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
		followCertificates(ctx, log, src)
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
				log.Info("tokens read again", "tokens", s.Authenticator.Tokens.Len())
			}
			return err
		})
	}
	if c.OIDC.Issuer != "" {
		roles := map[string]auth.Role{}
		for value, name := range c.OIDC.Roles {
			r, err := auth.ParseRole(name)
			if err != nil {
				return err
			}
			roles[value] = r
		}
		if len(roles) == 0 {
			roles = nil
		}
		v, err := auth.NewJWT(ctx, auth.JWTConfig{
			Issuer: c.OIDC.Issuer, Audience: c.OIDC.Audience, Keys: c.OIDC.Keys, RoleClaim: c.OIDC.RoleClaim, Roles: roles,
			NameClaim: c.OIDC.NameClaim, NamespaceClaim: c.OIDC.NamespaceClaim, KindClaim: c.OIDC.KindClaim,
		})
		if err != nil {
			return err
		}
		s.Authenticator.JWT = v
	}
	return nil
}

// followCertificates says when files cannot be read again, and when the
// certificate ends soon.
func followCertificates(ctx context.Context, log *slog.Logger, src *pki.Source) {
	var r pki.Reminder
	follow(ctx, log, "certificates", func() error {
		switch end := src.Expires(); {
		case !r.Due(end, time.Now()):
		case time.Now().After(end):
			log.Error("the certificate has ended: rota cert renew", "ended", end)
		default:
			log.Warn("the certificate ends soon: rota cert renew", "ends", end)
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
				log.Error(what+" cannot be read again; what was read before holds", "error", text)
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
				return nil, fmt.Errorf("scheduler %s is another machine: this needs --tls-ca, --tls-cert and --tls-key", a)
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
