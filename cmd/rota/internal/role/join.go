package role

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/secretfile"
)

const (
	// joinFor is how long schedulers are asked that do not answer.
	joinFor = 2 * time.Minute
	// joinCall bounds one call.
	joinCall = 10 * time.Second
	// joinPause is between two rounds of the schedulers.
	joinPause = 500 * time.Millisecond
)

// Join uses up the join token that an engine has handed to this process, if it has: c
// is then the worker that the token is for, with its certificate. named says that c.Name
// was given. What the process's own children inherit has no token, and says the same.
// left removes the key.
func Join(ctx context.Context, c *config.Worker, named bool, logTo io.Writer) (left func(), err error) {
	left = func() {}
	text, err := joinToken(c)
	if text == "" || err != nil {
		return left, err
	}
	token, err := auth.ParseJoinToken(text)
	if err != nil {
		return left, &rota.FieldError{Field: "join-token", Value: "", Want: "a complete join token: " + err.Error()}
	}
	if c.TLSCA != "" || c.TLSCert != "" {
		return left, &rota.FieldError{Field: "tls-ca", Value: c.TLSCA + c.TLSCert, Want: "no certificates beside a join token: the worker gets its own"}
	}
	public, private, err := pki.NewKey()
	if err != nil {
		return left, err
	}
	req := &rotav1.JoinWorkerRequest{Token: text.Reveal(), PublicKey: public}
	if named {
		req.Worker = c.Name
	}
	creds, err := joinCredentials(token, c.Schedulers)
	if err != nil {
		return left, err
	}
	resp, err := askToJoin(ctx, c.Schedulers, creds, req, logger(c.Log, logTo))
	if err != nil {
		return left, fmt.Errorf("join as %s: %w", token.Worker, err)
	}
	c.Name = resp.GetWorker()
	set := map[string]string{"ROTA_NAME": c.Name}
	if len(resp.GetCertificate()) > 0 {
		dir, err := os.MkdirTemp("", "rota-worker-")
		if err != nil {
			return left, fmt.Errorf("join as %s: %w", token.Worker, err)
		}
		left = func() { _ = os.RemoveAll(dir) }
		c.TLSCA, c.TLSCert, c.TLSKey = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "worker.crt"), filepath.Join(dir, "worker.key")
		err = errors.Join(os.WriteFile(c.TLSCA, []byte(token.CA), 0o600), pki.Replace(c.TLSCert, c.TLSKey, resp.GetCertificate(), private))
		if err != nil {
			left()
			return left, fmt.Errorf("join as %s: %w", token.Worker, err)
		}
		set["ROTA_TLS_CA"], set["ROTA_TLS_CERT"], set["ROTA_TLS_KEY"] = c.TLSCA, c.TLSCert, c.TLSKey
	}
	for name, value := range set {
		err = errors.Join(err, os.Setenv(name, value))
	}
	return left, err
}

// joinToken takes the token, which nothing else has a use for.
func joinToken(c *config.Worker) (auth.Secret, error) {
	text := os.Getenv(engine.TokenEnv)
	if err := errors.Join(os.Unsetenv(engine.TokenEnv), os.Unsetenv(engine.TokenFileEnv)); err != nil {
		return "", err
	}
	if c.JoinTokenFile == "" {
		return auth.Secret(strings.TrimSpace(text)), nil
	}
	b, err := secretfile.Read(c.JoinTokenFile)
	if err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	return auth.Secret(strings.TrimSpace(string(b))), nil
}

// joinCredentials trust whom the token says.
func joinCredentials(token auth.JoinToken, schedulers []string) (credentials.TransportCredentials, error) {
	if token.CA == "" {
		for _, a := range schedulers {
			if !auth.Loopback(a) {
				return nil, fmt.Errorf("scheduler %s is on another machine: the join token names no authority to verify it by", a)
			}
		}
		return insecure.NewCredentials(), nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(token.CA)) {
		return nil, &rota.FieldError{Field: "join-token", Value: "", Want: "a join token with an authority's certificates"}
	}
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}), nil
}

// askToJoin asks one scheduler after the other until one answers for good.
func askToJoin(ctx context.Context, schedulers []string, creds credentials.TransportCredentials, req *rotav1.JoinWorkerRequest, log *slog.Logger) (*rotav1.JoinWorkerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, joinFor)
	defer cancel()
	for told := false; ; {
		var errs error
		for _, address := range schedulers {
			resp, err := askOne(ctx, address, creds, req)
			if err == nil {
				return resp, nil
			}
			switch status.Code(err) {
			case codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented, codes.FailedPrecondition:
				return nil, errors.New(status.Convert(err).Message())
			}
			errs = errors.Join(errs, fmt.Errorf("scheduler %s: %s", address, status.Convert(err).Message()))
		}
		if !told {
			log.Warn("no scheduler lets this worker join yet; trying again", "error", errs)
			told = true
		}
		timer := time.NewTimer(joinPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errs
		}
	}
}

func askOne(ctx context.Context, address string, creds credentials.TransportCredentials, req *rotav1.JoinWorkerRequest) (*rotav1.JoinWorkerResponse, error) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, joinCall)
	defer cancel()
	return rotav1.NewPoolJoinClient(conn).JoinWorker(ctx, req)
}

// renewCertificate asks for the next certificate of a worker of a pool when two thirds
// of this one's time are over, again and again until ctx ends.
func renewCertificate(ctx context.Context, c *config.Worker, src *pki.Source, log *slog.Logger) {
	for {
		left := time.Until(src.Expires()) - poolLife/3
		timer := time.NewTimer(max(left, time.Minute))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if err := renewOnce(ctx, c, src); err != nil && ctx.Err() == nil {
			log.Warn("certificate not renewed; trying again", "error", err, "ends", src.Expires())
		}
	}
}

func renewOnce(ctx context.Context, c *config.Worker, src *pki.Source) (err error) {
	public, private, err := pki.NewKey()
	if err != nil {
		return err
	}
	for _, address := range c.Schedulers {
		var resp *rotav1.JoinWorkerResponse
		if resp, err = renewAt(ctx, address, src, &rotav1.RenewWorkerRequest{Worker: c.Name, PublicKey: public}); err == nil {
			return pki.Replace(c.TLSCert, c.TLSKey, resp.GetCertificate(), private)
		}
	}
	return err
}

func renewAt(ctx context.Context, address string, src *pki.Source, req *rotav1.RenewWorkerRequest) (*rotav1.JoinWorkerResponse, error) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(src.Credentials("")))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, joinCall)
	defer cancel()
	return rotav1.NewPoolJoinClient(conn).RenewWorker(ctx, req)
}
