// Package etcd keeps the store on etcd: on a cluster of the user's own (3.5 or
// newer) by Open, or on one embedded node by Embed, whose endpoint is then opened
// like any other, so that both are one code path.
//
// It is called by whoever starts a scheduler. It knows nothing of what is stored,
// and it never hides that an outcome is unknown: see store.Store.
package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
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
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/secretfile"
	"github.com/rota-project/rota/store"
)

// Defaults of Config.
const (
	DefaultDialTimeout    = 5 * time.Second
	DefaultRequestTimeout = 5 * time.Second
	DefaultPatience       = 500 * time.Millisecond
)

// Config says which etcd to use. Endpoints, Node or Client is all that is needed.
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
	// RevokedFile lists certificates of members that are good no more. Empty: none.
	RevokedFile string
	// CertFile and KeyFile are the client's own certificate, both or neither.
	CertFile, KeyFile string
	// TLS secures the connections in place of those files, for programs that have
	// certificates in memory.
	TLS *tls.Config
	// User and PasswordFile are for an etcd with authentication, both or neither.
	// A newline at the end of the file is left aside. Password is the password itself,
	// in place of a file.
	User, PasswordFile, Password string
	// Node is used in place of Endpoints: the node of this process, which renews leases
	// for less than one behind a connection. The store is closed before the node stops.
	Node *Embedded
	// Client is used in place of Endpoints, TLS and a user, by a program that has one
	// already. It is not closed. It spreads its calls over its members as it does,
	// so that one of them that is ill is noticed later than by a store of its own.
	Client *clientv3.Client
	// DialTimeout is how long Open tries. Zero means DefaultDialTimeout.
	DialTimeout time.Duration
	// RequestTimeout bounds each call, beside its context. After it the outcome of
	// a Txn is unknown. Zero means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// Patience is how long one member may take to answer before another is asked,
	// too: about a tenth of the shortest lease that must survive the loss of a
	// member. Zero means DefaultPatience.
	Patience time.Duration
	// Again has a single member that is late asked once more, as several are: it is one of
	// a Quorum, and may have passed on to a leader that is gone what it was asked before.
	Again bool
	// Logger gets what the client has to say. Nil means nobody.
	Logger *slog.Logger
}

// Store is a root on an etcd. It is safe for concurrent use.
type Store struct {
	members  []*member
	root     string
	timeout  time.Duration
	patience time.Duration
	again    bool            // see Config
	ctx      context.Context //nolint:containedctx // the store's own: watches outlive calls
	close    context.CancelFunc
	// heard is the greatest revision that any member has told of.
	heard atomic.Int64
	// Which member serves which purpose. A member that is late for one need not
	// be for the others.
	calls, renewing, watching route
}

var _ store.Store = (*Store)(nil)

// Open connects to etcd and waits until a member answers, at most for DialTimeout;
// it tries again meanwhile. An error names the field that is wrong, or the endpoints
// and the last of what they answered. A connection that is lost later comes back
// by itself.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Node != nil {
		if len(cfg.Endpoints) > 0 {
			return nil, &rota.FieldError{Field: "endpoints", Value: address.Text(strings.Join(cfg.Endpoints, ", ")), Want: "none together with a node"}
		}
		cfg.Endpoints = cfg.Node.Endpoints()
	}
	cc, err := clientConfig(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cc.DialTimeout)
	defer cancel()
	user := false
	if cfg.Client != nil {
		cfg.Endpoints = cfg.Client.Endpoints()
		err = answers(ctx, cfg.Client, cfg.Root)
	} else {
		user, err = connect(ctx, cc, cfg.Root)
	}
	if err != nil {
		return nil, fmt.Errorf("etcd: no answer from %s within %v: %w", address.Text(strings.Join(cfg.Endpoints, ", ")), cc.DialTimeout, address.Error(err))
	}
	if !user {
		cc.Username, cc.Password = "", ""
	}
	s := &Store{root: cfg.Root, timeout: cmp.Or(cfg.RequestTimeout, DefaultRequestTimeout), patience: cmp.Or(cfg.Patience, DefaultPatience), again: cfg.Again}
	s.ctx, s.close = context.WithCancel(context.Background())
	if cfg.Client != nil {
		s.members = []*member{borrow(cfg.Client)}
		return s, nil
	}
	for _, e := range cfg.Endpoints {
		m := newMember(cc, e)
		m.node = cfg.Node
		s.members = append(s.members, m)
	}
	return s, nil
}

// Close ends the connections. Watches end.
func (s *Store) Close() error {
	s.close()
	var errs []error
	for _, m := range s.members {
		if err := m.close(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// connect waits for an answer of some member. It asks without a user first: a
// client with one would be silent about why it cannot connect. user reports whether
// it takes one.
func connect(ctx context.Context, cc clientv3.Config, root string) (user bool, err error) {
	anonymous := cc
	anonymous.Username, anonymous.Password = "", ""
	err = probe(ctx, anonymous, root)
	if cc.Username == "" || err != nil && !errors.Is(err, rpctypes.ErrUserEmpty) {
		return false, err
	}
	return true, probe(ctx, cc, root)
}

// probe reads by a client of its own.
func probe(ctx context.Context, cc clientv3.Config, root string) error {
	client, err := clientv3.New(cc)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // it is of no use any more
	return answers(ctx, client, root)
}

// answers reads by a client until it gets an answer, or an error that will not go away.
func answers(ctx context.Context, client *clientv3.Client, root string) error {
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
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 3 * time.Second,
		})},
		MaxUnaryRetries: 2, // of reads, and with a new token; then another member is asked
		Username:        cfg.User,
		Password:        cfg.Password,
		Logger:          zap.NewNop(),
	}
	if cc.DialTimeout == 0 {
		cc.DialTimeout = DefaultDialTimeout
	}
	if cfg.Logger != nil {
		cc.Logger = zapLogger(cfg.Logger)
	}
	if cfg.Client != nil {
		if len(cfg.Endpoints) > 0 || cfg.TLS != nil || cfg.CAFile+cfg.CertFile+cfg.KeyFile+cfg.RevokedFile+cfg.User+cfg.Password+cfg.PasswordFile != "" {
			return cc, &rota.FieldError{Field: "client", Value: "", Want: "no endpoints, TLS or user together with it"}
		}
	} else if len(cfg.Endpoints) == 0 {
		return cc, &rota.FieldError{Field: "endpoints", Value: "", Want: "the address of an etcd; it is missing"}
	}
	for _, e := range cfg.Endpoints {
		if _, rest, ok := strings.Cut(e, "://"); strings.TrimSpace(e) != e || e == "" || ok && rest == "" {
			return cc, &rota.FieldError{Field: "endpoints", Value: address.Show(e), Want: "host:port or a URL"}
		}
	}
	if least := min(cfg.DialTimeout, cfg.RequestTimeout, cfg.Patience); least < 0 {
		return cc, &rota.FieldError{Field: "timeout", Value: least, Want: "zero or more"}
	}
	if cfg.Password != "" && (cfg.User == "" || cfg.PasswordFile != "") {
		return cc, &rota.FieldError{Field: "password", Value: "", Want: "a password only with a user, and no password_file beside it"}
	}
	if cfg.Password == "" && (cfg.User == "") != (cfg.PasswordFile == "") {
		return cc, &rota.FieldError{Field: "password_file", Value: cfg.PasswordFile, Want: "both user and password_file, or neither"}
	}
	if cfg.PasswordFile != "" {
		b, err := secretfile.Read(cfg.PasswordFile)
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
	if cfg.TLS != nil {
		if cfg.CAFile+cfg.CertFile+cfg.KeyFile+cfg.RevokedFile != "" {
			return nil, &rota.FieldError{Field: "tls", Value: "", Want: "either tls or TLS files"}
		}
		return credentials.NewTLS(cfg.TLS), nil
	}
	if cfg.CAFile == "" && cfg.CertFile == "" && cfg.KeyFile == "" {
		return nil, nil //nolint:nilnil // documented
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, &rota.FieldError{Field: "cert_file", Value: cfg.CertFile, Want: "both cert_file and key_file, or neither"}
	}
	src, err := pki.Load(pki.Files{CA: cfg.CAFile, Cert: cfg.CertFile, Key: cfg.KeyFile, Revoked: cfg.RevokedFile})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return src.Credentials(""), nil
}
