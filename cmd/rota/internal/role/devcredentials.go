package role

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/internal/auth/devcluster"
)

// devCredentials keep other users of the machine out of a cluster of rota dev: an
// authority, certificates and a token, made at each start. Nil lets them in.
type devCredentials struct {
	dir       string   // 0700
	hosts     []string // names in the certificates of schedulers
	token     auth.Secret
	remove    func() // of what package devcluster has published; nil if it could not
	published error  // why it could not
}

// newDevCredentials makes them below dir, for schedulers at these ports.
func newDevCredentials(dir string, at []*ports) (*devCredentials, error) {
	cr := &devCredentials{dir: filepath.Join(dir, "dev"), hosts: []string{"localhost", "127.0.0.1", "::1"}}
	if err := os.RemoveAll(cr.dir); err != nil { // of an earlier start
		return nil, err
	}
	now := time.Now()
	if _, err := pki.Init(cr.dir, "rota dev", 0, now); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(cr.dir)
	if err != nil {
		return nil, err
	}
	known := devcluster.Cluster{HTTP: at[0].http.Addr().String(), PKI: abs}
	for _, p := range at {
		known.GRPC = append(known.GRPC, p.grpc.Addr().String())
		if host, _, err := net.SplitHostPort(p.grpc.Addr().String()); err == nil && !slices.Contains(cr.hosts, host) {
			cr.hosts = append(cr.hosts, host)
		}
	}
	token, secret, err := auth.NewToken(auth.Token{Name: "rota dev", Role: auth.Admin}, now)
	if err != nil {
		return nil, err
	}
	cr.token, known.Token = secret, secret
	if err := auth.EditTokenFile(cr.tokens(), func([]auth.Token) ([]auth.Token, error) { return []auth.Token{token}, nil }); err != nil {
		return nil, err
	}
	if err := os.WriteFile(cr.file(), []byte(secret.Reveal()+"\n"), 0o600); err != nil {
		return nil, err
	}
	cr.remove, cr.published = devcluster.Publish(os.LookupEnv, known)
	return cr, nil
}

// secure has a scheduler go by them.
func (cr *devCredentials) secure(sc *config.Scheduler) error {
	if cr == nil {
		return nil
	}
	cert, err := pki.Issue(cr.dir, pki.Request{Role: pki.Scheduler, Name: sc.Name, Hosts: cr.hosts, Life: pki.MaxLife}, time.Now())
	if err != nil {
		return err
	}
	sc.Tokens, sc.Authority = cr.tokens(), cr.dir
	sc.TLS, sc.TLSCert, sc.TLSKey, sc.TLSCA = true, cert.File, cert.Key, filepath.Join(cr.dir, pki.CAFile)
	return nil
}

// tokens is the file of valid tokens.
func (cr *devCredentials) tokens() string { return filepath.Join(cr.dir, "tokens") }

// file has the token and nothing else.
func (cr *devCredentials) file() string { return filepath.Join(cr.dir, "token") }

// close removes what is of no use after the end.
func (cr *devCredentials) close() {
	if cr.remove != nil {
		cr.remove()
	}
	_ = os.RemoveAll(cr.dir)
}

// secureWorker has a worker go by them.
func (cr *devCredentials) secureWorker(w *config.Worker) error {
	if cr == nil {
		return nil
	}
	f, err := devcluster.WorkerFiles(cr.dir, w.Name)
	w.TLSCA, w.TLSCert, w.TLSKey = f.CA, f.Cert, f.Key
	return err
}

// fragment makes the console's address one that brings the token along; browsers
// keep what is after # to themselves. It is empty where others may read it.
func (cr *devCredentials) fragment(show bool) string {
	if cr == nil || !show {
		return ""
	}
	return "#token=" + cr.token.Reveal()
}

// lines say how to be let in.
func (cr *devCredentials) lines() []string {
	if cr == nil {
		return []string{"token     none: every user of this machine is an admin (--insecure)"}
	}
	found := ", which the rota command finds by itself"
	if cr.published != nil {
		found = fmt.Sprintf(", which the rota command does not find by itself (%v)", cr.published)
	}
	return []string{"token     in " + cr.file() + found}
}

// exports are variables for commands that find nothing by themselves.
func (cr *devCredentials) exports() []string {
	if cr == nil || cr.published == nil {
		return nil
	}
	return []string{"ROTA_TLS_CA=" + filepath.Join(cr.dir, pki.CAFile), auth.EnvTokenFile + "=" + cr.file()}
}
