package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// etcdFlags say which cluster of replicas is looked at, by its etcd.
type etcdFlags struct {
	endpoints          []string
	root               string
	ca, cert, key      string
	user, passwordFile string
	password           string // of the environment
	asked              bool   // by --etcd or --root: then no server is
	beside             bool   // the command may ask etcd besides servers, without --root
}

func (e *etcdFlags) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&e.endpoints, "etcd", nil, "etcd endpoints of a peer cluster, to read its state directly; needs --root [ROTA_ETCD]")
	fs.StringVar(&e.root, "root", "", "key prefix of the peer cluster; needs --etcd [ROTA_ROOT]")
	fs.StringVar(&e.ca, "etcd-ca", "", "CA bundle that signs etcd's certificates (PEM) [ROTA_ETCD_CA]")
	fs.StringVar(&e.cert, "etcd-cert", "", "client certificate for etcd (PEM) [ROTA_ETCD_CERT]")
	fs.StringVar(&e.key, "etcd-key", "", "private key of --etcd-cert (PEM) [ROTA_ETCD_KEY]")
	fs.StringVar(&e.user, "etcd-user", "", "etcd user [ROTA_ETCD_USER]")
	fs.StringVar(&e.passwordFile, "etcd-password-file", "", "file with the password of --etcd-user; if unset, ROTA_ETCD_PASSWORD [ROTA_ETCD_PASSWORD_FILE]")
}

// complete adds what the environment says, if etcd is asked at all: who has the
// environment of a scheduler still asks schedulers.
func (e *etcdFlags) complete(fs *pflag.FlagSet, lookup func(string) (string, bool)) error {
	given := fs.Changed("etcd") || fs.Changed("root")
	if e.asked = given; e.beside {
		e.asked = fs.Changed("root")
	}
	if !given {
		for _, name := range []string{"etcd-ca", "etcd-cert", "etcd-key", "etcd-user", "etcd-password-file"} {
			if fs.Changed(name) {
				return usagef("--%s: want --etcd and --root too", name)
			}
		}
		return nil
	}
	if e.asked && fs.Changed("server") {
		return usagef("--etcd, --root: want either them or --server")
	}
	for name, to := range map[string]*string{
		"root": &e.root, "etcd-ca": &e.ca, "etcd-cert": &e.cert, "etcd-key": &e.key, "etcd-user": &e.user, "etcd-password-file": &e.passwordFile,
	} {
		if v, ok := lookup("ROTA_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); ok && !fs.Changed(name) {
			*to = v
		}
	}
	if v, ok := lookup("ROTA_ETCD"); ok && v != "" && !fs.Changed("etcd") {
		e.endpoints = strings.Split(v, ",")
	}
	if v, ok := lookup("ROTA_ETCD_PASSWORD"); ok && e.passwordFile == "" {
		e.password = v
	}
	switch {
	case len(e.endpoints) == 0:
		return usagef("--etcd: want an address of etcd, as --root is given")
	case e.asked && e.root == "":
		return usagef("--root: want the key prefix of the replicas, as --etcd is given")
	}
	return nil
}

// connectEtcd answers for the cluster that etcd keeps, within this process.
func (a *app) connectEtcd(ctx context.Context) (*grpc.ClientConn, error) {
	if a.looking == nil {
		looking, err := a.client.etcd.look(ctx)
		if err != nil {
			return nil, err
		}
		a.looking = looking
	}
	conn, err := a.looking.window.Dial(a.noteAge())
	if err != nil {
		return nil, err
	}
	a.conn, a.server = conn, "etcd"
	return conn, nil
}

// looking is a cluster that is looked at, and the store that it is in.
type looking struct {
	window *server.Window
	store  *etcd.Store
}

// config is how to connect to etcd.
func (e *etcdFlags) config(root string) etcd.Config {
	return etcd.Config{
		Endpoints: e.endpoints, Root: root, CAFile: e.ca, CertFile: e.cert, KeyFile: e.key,
		User: e.user, PasswordFile: e.passwordFile, Password: e.password,
	}
}

// flagError says which flag is wrong where a field of the configuration is.
func flagError(err error) error {
	if field := (*rota.FieldError)(nil); errors.As(err, &field) {
		flag := "--etcd"
		if field.Field != "endpoints" {
			flag += "-" + strings.ReplaceAll(field.Field, "_", "-")
		}
		return usagef("%s: %v: want %s", flag, field.Value, field.Want)
	}
	return err
}

func (e *etcdFlags) look(ctx context.Context) (*looking, error) {
	st, err := etcd.Open(ctx, e.config(store.PeerRoot(e.root)))
	if err != nil {
		return nil, flagError(err)
	}
	w, err := server.Look(ctx, st)
	if errors.Is(err, server.ErrNoCluster) {
		err = fmt.Errorf("--root: %q: %w: no replica with that root has used this etcd", e.root, err)
	}
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &looking{w, st}, nil
}

func (l *looking) close() {
	_, _ = l.window.Close(), l.store.Close() // nothing is left to be lost
}
