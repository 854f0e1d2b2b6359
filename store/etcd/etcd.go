// Package etcd keeps the store on etcd: on a cluster of the user's own (3.5 or
// newer) by Open, or on one embedded node by Embed, whose endpoint is then opened
// like any other, so that both are one code path.
//
// It is called by whoever starts a scheduler. It knows nothing of what is stored,
// and it never hides that an outcome is unknown: see store.Store.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/pki"
	"github.com/rota-project/rota/store"
)

// Defaults of Config.
const (
	DefaultDialTimeout    = 5 * time.Second
	DefaultRequestTimeout = 5 * time.Second
)

// Config says which etcd to use. Endpoints is all that is needed.
type Config struct {
	// Endpoints are the addresses of the members, "http://10.0.0.1:2379" or
	// "10.0.0.1:2379"; https if there is any TLS file.
	Endpoints []string
	// Root is put before every key, as it is; it should end in "/". Clusters of
	// different roots share an etcd and know nothing of each other.
	Root string
	// CAFile has the certificates that the members' are checked by, in PEM.
	// Empty means the system's. This and the other files of TLS are followed: the
	// next connection goes by what they say then.
	CAFile string
	// CertFile and KeyFile are the client's own certificate, both or neither.
	CertFile, KeyFile string
	// User and PasswordFile are for an etcd with authentication, both or neither.
	// A newline at the end of the file is left aside.
	User, PasswordFile string
	// DialTimeout is how long Open tries. Zero means DefaultDialTimeout.
	DialTimeout time.Duration
	// RequestTimeout bounds each call, beside its context. After it the outcome of
	// a Txn is unknown. Zero means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// Logger gets what the client has to say. Nil means nobody.
	Logger *slog.Logger
}

// Store is a root on an etcd. It is safe for concurrent use.
type Store struct {
	client   *clientv3.Client
	renewals *renewals
	root     string
	timeout  time.Duration
}

var _ store.Store = (*Store)(nil)

// Open connects to etcd and waits until it answers, at most for DialTimeout; it
// tries again meanwhile. An error names the field that is wrong, or the endpoints
// and the last of what they answered. A connection that is lost later comes back
// by itself.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cc, err := clientConfig(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cc.DialTimeout)
	defer cancel()
	client, err := dial(ctx, cc, cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("etcd: no answer from %s within %v: %w", strings.Join(cfg.Endpoints, ", "), cc.DialTimeout, err)
	}
	s := &Store{client: client, renewals: newRenewals(client), root: cfg.Root, timeout: cfg.RequestTimeout}
	if s.timeout == 0 {
		s.timeout = DefaultRequestTimeout
	}
	return s, nil
}

// Close ends the connection. Watches end.
func (s *Store) Close() error {
	s.renewals.close()
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("etcd: close: %w", err)
	}
	return nil
}

// dial makes a client and waits for an answer. It asks without a user first: a
// client with one would be silent about why it cannot connect.
func dial(ctx context.Context, cc clientv3.Config, root string) (*clientv3.Client, error) {
	user, password := cc.Username, cc.Password
	cc.Username, cc.Password = "", ""
	client, err := clientv3.New(cc)
	if err != nil {
		return nil, err
	}
	err = probe(ctx, client, root)
	if user == "" && err == nil {
		return client, nil
	}
	_ = client.Close() // it is of no use any more
	if user == "" || err != nil && !errors.Is(err, rpctypes.ErrUserEmpty) {
		return nil, err
	}
	cc.Username, cc.Password = user, password
	if client, err = clientv3.New(cc); err != nil {
		return nil, err
	}
	if err := probe(ctx, client, root); err != nil {
		_ = client.Close() // the error of the probe is the one that counts
		return nil, err
	}
	return client, nil
}

// probe reads until it gets an answer, or an error that will not go away.
func probe(ctx context.Context, client *clientv3.Client, root string) error {
	kv := etcdserverpb.NewKVClient(client.ActiveConnection())
	var last error
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := kv.Range(try, &etcdserverpb.RangeRequest{Key: []byte(root + store.LeaderKey), KeysOnly: true}, grpc.WaitForReady(false))
		cancel()
		switch code := status.Code(err); {
		case err == nil:
			return nil
		case code == codes.InvalidArgument, code == codes.PermissionDenied, code == codes.Unauthenticated, code == codes.FailedPrecondition:
			return rpctypes.Error(err)
		case last == nil || ctx.Err() == nil:
			last = rpctypes.Error(err)
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func clientConfig(cfg Config) (clientv3.Config, error) {
	cc := clientv3.Config{
		Endpoints:            cfg.Endpoints,
		DialTimeout:          cfg.DialTimeout,
		DialKeepAliveTime:    10 * time.Second, // etcd refuses more than one ping in 5 s
		DialKeepAliveTimeout: 5 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			// An etcd that was away a moment is back a moment later.
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		})},
		MaxUnaryRetries: 5, // of reads; an outage should show soon
		Username:        cfg.User,
		Logger:          zap.NewNop(),
	}
	if cc.DialTimeout == 0 {
		cc.DialTimeout = DefaultDialTimeout
	}
	if cfg.Logger != nil {
		cc.Logger = zapLogger(cfg.Logger)
	}
	if len(cfg.Endpoints) == 0 {
		return cc, &rota.FieldError{Field: "endpoints", Value: "", Want: "the address of an etcd; it is missing"}
	}
	for _, e := range cfg.Endpoints {
		if _, rest, ok := strings.Cut(e, "://"); strings.TrimSpace(e) != e || e == "" || ok && rest == "" {
			return cc, &rota.FieldError{Field: "endpoints", Value: e, Want: "host:port or a URL"}
		}
	}
	if cfg.DialTimeout < 0 || cfg.RequestTimeout < 0 {
		return cc, &rota.FieldError{Field: "timeout", Value: min(cfg.DialTimeout, cfg.RequestTimeout), Want: "zero or more"}
	}
	if (cfg.User == "") != (cfg.PasswordFile == "") {
		return cc, &rota.FieldError{Field: "password_file", Value: cfg.PasswordFile, Want: "user and password_file together or neither"}
	}
	if cfg.PasswordFile != "" {
		b, err := os.ReadFile(cfg.PasswordFile)
		if err != nil {
			return cc, fmt.Errorf("etcd: password_file: %w", err)
		}
		if cc.Password = strings.TrimRight(string(b), "\r\n"); cc.Password == "" {
			return cc, &rota.FieldError{Field: "password_file", Value: cfg.PasswordFile, Want: "a file with a password; it is empty"}
		}
	}
	creds, err := transport(cfg)
	if creds != nil {
		cc.DialOptions = append(cc.DialOptions, grpc.WithTransportCredentials(creds))
	}
	return cc, err
}

// transport secures connections by files that are followed: each connection goes
// by what they say then. Without any it is nil.
func transport(cfg Config) (credentials.TransportCredentials, error) {
	if cfg.CAFile == "" && cfg.CertFile == "" && cfg.KeyFile == "" {
		return nil, nil //nolint:nilnil // documented
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, &rota.FieldError{Field: "cert_file", Value: cfg.CertFile, Want: "cert_file and key_file together or neither"}
	}
	src, err := pki.Load(pki.Files{CA: cfg.CAFile, Cert: cfg.CertFile, Key: cfg.KeyFile})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return src.Credentials(""), nil
}
