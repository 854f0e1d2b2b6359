package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/rest"
	"github.com/rota-project/rota/internal/auth/devcluster"
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
	etcd                     etcdFlags
}

func (c *clientFlags) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&c.servers, "server", []string{config.DefaultGRPC()}, "gRPC addresses of the schedulers, tried in order [ROTA_SERVER]")
	fs.StringVar(&c.ca, "tls-ca", "", "CA bundle that signs the schedulers' certificates (PEM); if unset, TLS is off [ROTA_TLS_CA]")
	fs.StringVar(&c.cert, "tls-cert", "", "client certificate (PEM) [ROTA_TLS_CERT]")
	fs.StringVar(&c.key, "tls-key", "", "private key of --tls-cert (PEM) [ROTA_TLS_KEY]")
	fs.StringVar(&c.revoked, "tls-revoked", "", "revocation list of scheduler certificates (rota cert revoke) [ROTA_TLS_REVOKED]")
	fs.StringVar(&c.token, "token-file", "", "file with the token; if unset, ROTA_TOKEN [ROTA_TOKEN_FILE]")
	fs.DurationVar(&c.timeout, "timeout", rest.DefaultTimeout, "time limit of a call; watches have none [ROTA_TIMEOUT]")
	c.etcd.add(fs)
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
	return c.etcd.complete(fs, lookup)
}

// connect returns a connection to the first server that answers.
func (a *app) connect(ctx context.Context) (*grpc.ClientConn, error) {
	if a.conn != nil {
		return a.conn, nil
	}
	if a.client.etcd.asked {
		return a.connectEtcd(ctx)
	}
	dial := a.env.Dial
	if dial == nil {
		a.client.findServer(a.env.Lookup)
		dial = a.dial
	}
	var reasons []string
	refused := 0
	for _, addr := range a.client.servers {
		conn, err := dial(ctx, addr)
		if err == nil {
			a.conn, a.server = conn, addr
			return conn, nil
		}
		if errors.As(err, new(*usageError)) { // no server was asked yet
			return nil, err
		}
		if errors.As(err, new(*refusedError)) {
			refused++
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", addr, err))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("no scheduler answers (%s)", strings.Join(reasons, "; "))
	switch {
	case refused == len(reasons):
		return nil, &refusedError{text}
	case a.server != "": // one did
		return nil, errors.New(text)
	}
	return nil, errors.New(text + "; start one with rota dev, or give its address with --server")
}

// disconnect lets go of the connection; the next one is to another server, if
// there is one that answers.
func (a *app) disconnect() {
	a.close()
	a.conn = nil
	if n := slices.Index(a.client.servers, a.server); n >= 0 {
		a.client.servers = slices.Concat(a.client.servers[n+1:], a.client.servers[:n+1])
	}
}

// refusedError says that servers answer, and each refuses this client by TLS.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// findServer takes the schedulers of the one cluster that this user's rota dev runs, if
// there is one and no server was asked for: it may have moved to other ports.
func (c *clientFlags) findServer(lookup devcluster.Lookup) {
	if c.givenServers || c.givenFiles {
		return
	}
	if found, ok := devcluster.Find(lookup, c.servers[0]); ok {
		c.servers = found.GRPC
		return
	}
	if all := devcluster.All(lookup); len(all) == 1 {
		c.servers = all[0].GRPC
	}
}

// pass is what this user shows a scheduler, and how the scheduler is known.
type pass struct {
	source *pki.Source // nil: without TLS
	token  auth.Secret // empty: none
}

// secure reports whether a token may be sent to an address.
func (p pass) secure(addr string) bool { return p.source != nil || auth.Loopback(addr) }

// passTo is what was asked for, or what this user's rota dev at that address wants.
func (a *app) passTo(addr string) (p pass, err error) {
	if !a.client.givenFiles {
		if found, ok := devcluster.Find(a.env.Lookup, addr); ok {
			p.token = found.Token
			p.source, err = found.Source()
			return p, err
		}
	}
	if p.source, err = a.client.source(); err != nil {
		return p, usagef("%v", err)
	}
	if p.token, err = auth.ClientToken(a.client.token, a.env.Lookup); err != nil {
		return p, usagef("%v", err)
	}
	return p, nil
}

// dial connects with the pass to the address.
func (a *app) dial(ctx context.Context, addr string) (*grpc.ClientConn, error) {
	p, err := a.passTo(addr)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if p.source != nil {
		creds = p.source.Credentials("")
	}
	more := []grpc.DialOption{a.noteAge()}
	if p.token != "" {
		more = append(more, grpc.WithPerRPCCredentials(auth.PerRPC(p.token, p.secure(addr))))
	}
	return dialServer(ctx, addr, creds, more...)
}

// asOf is what is to be said beside something of an answer that is too old.
func (a *app) asOf() string {
	if a.stale == 0 {
		return ""
	}
	return fmt.Sprintf(", as of %v ago, when the scheduler last heard from its store", a.stale.Round(time.Second))
}

// noteAge has each call note if its answer is from a picture that is too old.
func (a *app) noteAge() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		var md metadata.MD
		err := invoke(ctx, method, req, reply, conn, append(opts, grpc.Header(&md))...)
		if age := md.Get(rest.AgeHeader); len(age) > 0 && len(md.Get(rest.StaleHeader)) > 0 {
			if ms, err := strconv.ParseInt(age[0], 10, 64); err == nil {
				a.stale = max(a.stale, time.Duration(ms)*time.Millisecond)
			}
		}
		return err
	})
}

// source is how schedulers are known by their certificates; nil without TLS.
func (c *clientFlags) source() (*pki.Source, error) {
	if c.ca == "" && c.cert == "" && c.key == "" && c.revoked == "" {
		return nil, nil //nolint:nilnil // documented
	}
	if c.ca == "" {
		return nil, errors.New("--tls-ca: want a CA bundle, as --tls-cert, --tls-key or --tls-revoked is given")
	}
	src, err := pki.Load(pki.Files{CA: c.ca, Cert: c.cert, Key: c.key, Revoked: c.revoked})
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	return src, nil
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
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}), // a machine may go without a word
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
		return &refusedError{"TLS: " + strings.TrimSuffix(why, `"`)}
	}
	return errors.New("that is not a scheduler, or only one side uses TLS (--tls-ca)")
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

// get is the command that asks for one thing by its name, and shows it.
func get[M proto.Message](a *app, use, short string, complete cobra.CompletionFunc, table func(io.Writer, M) error, ask func(context.Context, *grpc.ClientConn, string) (M, error)) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				m, err := ask(ctx, conn, args[0])
				if err != nil {
					return err
				}
				return a.print(m, func(w io.Writer) error { return table(w, m) })
			})
		},
		ValidArgsFunction: complete,
	}
}

func tasksOf(conn *grpc.ClientConn) rotav1.TasksClient     { return rotav1.NewTasksClient(conn) }
func workersOf(conn *grpc.ClientConn) rotav1.WorkersClient { return rotav1.NewWorkersClient(conn) }
func clusterOf(conn *grpc.ClientConn) rotav1.ClusterClient { return rotav1.NewClusterClient(conn) }
