package role

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/config"
	"github.com/rota-project/rota/internal/devcluster"
	"github.com/rota-project/rota/pki"
)

// devCredentials keep other users of the machine out of a cluster of rota dev: an
// authority, certificates and a token, made at each start. Nil lets them in.
type devCredentials struct {
	dir       string // 0700
	token     auth.Secret
	remove    func() // of what package devcluster has published; nil if it could not
	published error  // why it could not
}

// newDevCredentials makes them below dir and has the scheduler go by them.
func newDevCredentials(dir string, grpcA, httpA net.Addr, sc *config.Scheduler) (*devCredentials, error) {
	cr := &devCredentials{dir: filepath.Join(dir, "dev")}
	if err := os.RemoveAll(cr.dir); err != nil { // of an earlier start
		return nil, err
	}
	now := time.Now()
	if _, err := pki.Init(cr.dir, "rota dev", 0, now); err != nil {
		return nil, err
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(grpcA.String()); err == nil && host != hosts[1] && host != hosts[2] {
		hosts = append(hosts, host)
	}
	cert, err := pki.Issue(cr.dir, pki.Request{Role: pki.Scheduler, Name: sc.Name, Hosts: hosts, Life: pki.MaxLife}, now)
	if err != nil {
		return nil, err
	}
	token, secret, err := auth.NewToken(auth.Token{Name: "rota dev", Role: auth.Admin}, now)
	if err != nil {
		return nil, err
	}
	sc.Tokens, cr.token = filepath.Join(cr.dir, "tokens"), secret
	if err := auth.EditTokenFile(sc.Tokens, func([]auth.Token) ([]auth.Token, error) { return []auth.Token{token}, nil }); err != nil {
		return nil, err
	}
	if err := os.WriteFile(cr.file(), []byte(secret.Reveal()+"\n"), 0o600); err != nil {
		return nil, err
	}
	sc.TLS, sc.TLSCert, sc.TLSKey, sc.TLSCA = true, cert.File, cert.Key, filepath.Join(cr.dir, pki.CAFile)
	abs, err := filepath.Abs(cr.dir)
	if err != nil {
		return nil, err
	}
	cr.remove, cr.published = devcluster.Publish(os.LookupEnv, devcluster.Cluster{GRPC: grpcA.String(), HTTP: httpA.String(), Token: secret, PKI: abs})
	return cr, nil
}

// file has the token and nothing else.
func (cr *devCredentials) file() string { return filepath.Join(cr.dir, "token") }

// close removes what is of no use after the end.
func (cr *devCredentials) close() {
	if cr.remove != nil {
		cr.remove()
	}
	_ = os.RemoveAll(cr.dir)
}

// worker are the flags for a worker of this name.
func (cr *devCredentials) worker(name string) ([]string, error) {
	if cr == nil {
		return nil, nil
	}
	f, err := devcluster.WorkerFiles(cr.dir, name)
	return []string{"--tls-ca", f.CA, "--tls-cert", f.Cert, "--tls-key", f.Key}, err
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
	found := ", which rota finds by itself"
	if cr.published != nil {
		found = fmt.Sprintf(", which rota does not find by itself (%v)", cr.published)
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
