package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/api"
	"github.com/rota-project/rota/api/bound"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/config"
	"github.com/rota-project/rota/internal/devcluster"
	"github.com/rota-project/rota/pki"
)

// connectTimeout is how long one of several servers may take to answer at all.
const connectTimeout = 3 * time.Second

// clientFlags say where the cluster is.
type clientFlags struct {
	servers []string
	ca      string
	cert    string
	key     string
	revoked string
	token   string
	timeout time.Duration
	// given says that servers, or files of TLS and a token, were asked for by flags
	// or, for servers, by the environment: then nothing else is looked for.
	givenServers, givenFiles bool
}

func (c *clientFlags) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&c.servers, "server", []string{config.DefaultGRPC}, "the schedulers' gRPC addresses, tried in order [ROTA_SERVER]")
	fs.StringVar(&c.ca, "tls-ca", "", "who may vouch for the schedulers, PEM; without it there is no TLS [ROTA_TLS_CA]")
	fs.StringVar(&c.cert, "tls-cert", "", "a certificate to show them, PEM [ROTA_TLS_CERT]")
	fs.StringVar(&c.key, "tls-key", "", "its key, PEM [ROTA_TLS_KEY]")
	fs.StringVar(&c.revoked, "tls-revoked", "", "list of revoked certificates, which schedulers must not show (rota cert revoke) [ROTA_TLS_REVOKED]")
	fs.StringVar(&c.token, "token-file", "", "a file with the token to show; else the one in ROTA_TOKEN, if it is set [ROTA_TOKEN_FILE]")
	fs.DurationVar(&c.timeout, "timeout", api.DefaultTimeout, "the most time a call may take, watches excepted [ROTA_TIMEOUT]")
}

func (c *clientFlags) complete(fs *pflag.FlagSet, lookup func(string) (string, bool)) error {
	if v, ok := lookup("ROTA_SERVER"); ok && v != "" && !fs.Changed("server") {
		c.servers, c.givenServers = strings.Split(v, ","), true
	}
	c.givenServers = c.givenServers || fs.Changed("server")
	for _, name := range []string{"tls-ca", "tls-cert", "tls-key", "token-file"} {
		c.givenFiles = c.givenFiles || fs.Changed(name)
	}
	for name, to := range map[string]*string{"tls-ca": &c.ca, "tls-cert": &c.cert, "tls-key": &c.key, "tls-revoked": &c.revoked} {
		if v, ok := lookup("ROTA_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); ok && !fs.Changed(name) {
			*to = v
		}
	}
	if v, ok := lookup("ROTA_TIMEOUT"); ok && v != "" && !fs.Changed("timeout") {
		d, err := time.ParseDuration(v)
		if err != nil {
			return usagef("ROTA_TIMEOUT: %q: want a duration such as 30s", v)
		}
		c.timeout = d
	}
	if c.timeout <= 0 {
		return usagef("--timeout: %v: want a duration above zero", c.timeout)
	}
	for i, s := range c.servers {
		c.servers[i] = strings.TrimSpace(s)
		if host, port, err := net.SplitHostPort(c.servers[i]); err != nil || host == "" || port == "" {
			return usagef("--server: %q: want host:port", s)
		}
	}
	if len(c.servers) == 0 {
		return usagef("--server: want at least one address")
	}
	return nil
}

// connect returns a connection to the first server that answers.
func (a *app) connect(ctx context.Context) (*grpc.ClientConn, error) {
	if a.conn != nil {
		return a.conn, nil
	}
	dial := a.env.Dial
	if dial == nil {
		a.client.findServer(a.env.Lookup)
		dial = a.dial
	}
	var reasons []string
	for _, addr := range a.client.servers {
		conn, err := dial(ctx, addr)
		if err == nil {
			a.conn = conn
			return conn, nil
		}
		if errors.As(err, new(*usageError)) { // no server was asked yet
			return nil, err
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", addr, err))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("no scheduler answers (%s); start one with rota dev, or say where it is with --server", strings.Join(reasons, "; "))
}

// findServer takes the one cluster that this user's rota dev runs, if there is
// one and no server was asked for: it may have moved to other ports.
func (c *clientFlags) findServer(lookup devcluster.Lookup) {
	if c.givenServers || c.givenFiles {
		return
	}
	if _, ok := devcluster.Find(lookup, c.servers[0]); ok {
		return
	}
	if all := devcluster.All(lookup); len(all) == 1 {
		c.servers = []string{all[0].GRPC}
	}
}

// dial connects with what was asked for, or with what this user's rota dev at
// that address wants.
func (a *app) dial(ctx context.Context, addr string) (*grpc.ClientConn, error) {
	if !a.client.givenFiles {
		if found, ok := devcluster.Find(a.env.Lookup, addr); ok {
			src, err := found.Source()
			if err != nil {
				return nil, err
			}
			return dialServer(ctx, addr, src.Credentials(""), a.noteAge(), grpc.WithPerRPCCredentials(auth.PerRPC(found.Token, true)))
		}
	}
	creds, err := a.client.credentials()
	if err != nil {
		return nil, usagef("%v", err)
	}
	token, err := auth.ClientToken(a.client.token, a.env.Lookup)
	if err != nil {
		return nil, usagef("%v", err)
	}
	if token == "" {
		return dialServer(ctx, addr, creds, a.noteAge())
	}
	secure := a.client.ca != "" || auth.Loopback(addr)
	return dialServer(ctx, addr, creds, a.noteAge(), grpc.WithPerRPCCredentials(auth.PerRPC(token, secure)))
}

// noteAge has each call note if its answer is from a picture that is too old.
func (a *app) noteAge() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		var md metadata.MD
		err := invoke(ctx, method, req, reply, conn, append(opts, grpc.Header(&md))...)
		if age := md.Get(api.AgeHeader); len(age) > 0 && len(md.Get(api.StaleHeader)) > 0 {
			if ms, err := strconv.ParseInt(age[0], 10, 64); err == nil {
				a.stale = max(a.stale, time.Duration(ms)*time.Millisecond)
			}
		}
		return err
	})
}

func (c *clientFlags) credentials() (credentials.TransportCredentials, error) {
	if c.ca == "" && c.cert == "" && c.key == "" && c.revoked == "" {
		return insecure.NewCredentials(), nil
	}
	if c.ca == "" {
		return nil, errors.New("--tls-ca: want it with --tls-cert, --tls-key and --tls-revoked")
	}
	src, err := pki.Load(pki.Files{CA: c.ca, Cert: c.cert, Key: c.key, Revoked: c.revoked})
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	return src.Credentials(""), nil
}

// dialServer returns once the connection stands, or says why it does not.
func dialServer(ctx context.Context, addr string, creds credentials.TransportCredentials, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var (
		mu   sync.Mutex
		last error
	)
	conn, err := grpc.NewClient("passthrough:///"+addr, append(more,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(bound.MaxAnswer), grpc.MaxCallSendMsgSize(bound.MaxMessage)),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			mu.Lock()
			last = err
			mu.Unlock()
			return c, err
		}))...)
	if err != nil {
		return nil, err
	}
	conn.Connect()
	for s := conn.GetState(); s != connectivity.Ready; s = conn.GetState() {
		if s != connectivity.TransientFailure && conn.WaitForStateChange(ctx, s) {
			continue
		}
		mu.Lock()
		err := last
		mu.Unlock()
		if err == nil && ctx.Err() == nil {
			err = unwelcome(ctx, conn)
		}
		_ = conn.Close()
		if err == nil {
			err = fmt.Errorf("no answer within %v", connectTimeout)
		}
		return nil, err
	}
	return conn, nil
}

// unwelcome says why a connection came to nothing though somebody listens there:
// a call that does not wait for a better one has gRPC tell.
func unwelcome(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if _, why, ok := strings.Cut(status.Convert(err).Message(), "authentication handshake failed: "); ok {
		return errors.New("TLS: " + strings.TrimSuffix(why, `"`))
	}
	return errors.New("something else than a scheduler listens there, or TLS is wanted on one side only (--tls-ca)")
}

// call runs f with a connection and the time that a call may take.
func (a *app) call(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.client.timeout)
	defer cancel()
	return f(ctx, conn)
}

func tasksOf(conn *grpc.ClientConn) rotav1.TasksClient     { return rotav1.NewTasksClient(conn) }
func workersOf(conn *grpc.ClientConn) rotav1.WorkersClient { return rotav1.NewWorkersClient(conn) }
func clusterOf(conn *grpc.ClientConn) rotav1.ClusterClient { return rotav1.NewClusterClient(conn) }
