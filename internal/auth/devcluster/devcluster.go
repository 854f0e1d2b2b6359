// Package devcluster is how programs of one user find the clusters that rota dev runs
// for this user on this machine: where they listen, and what to show them.
//
// rota dev publishes a file for each cluster, that only the user may read, and
// holds a lock on it as long as it lives: what a killed one has left behind is
// known as such, ignored, and removed by the next. The command line, the worker
// and package program look for it. It must never be asked about other machines.
package devcluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
)

// Cluster is a cluster on this machine.
type Cluster struct {
	GRPC  []string    `json:"grpc"`  // host:port of each scheduler, at least one
	HTTP  string      `json:"http"`  // host:port
	Token auth.Secret `json:"-"`     // of an admin
	Text  string      `json:"token"` // Token in the file
	PKI   string      `json:"pki"`   // the directory of its authority
}

// Lookup finds variables of the environment, as os.LookupEnv does.
type Lookup func(string) (string, bool)

const ext = ".json"

// maxFile bounds what is read of a file, in bytes.
const maxFile = 64 << 10

// dirs are where files may be, the first that can be had for new ones. All are
// the user's own, and of this machine.
func dirs(lookup Lookup) (list []string) {
	if d, ok := lookup("XDG_RUNTIME_DIR"); ok && filepath.IsAbs(d) {
		list = append(list, filepath.Join(d, "rota"))
	}
	host, _ := os.Hostname()
	home, ok := lookup("XDG_CACHE_HOME")
	if !ok || !filepath.IsAbs(home) {
		h, _ := lookup("HOME")
		if !filepath.IsAbs(h) {
			return list
		}
		home = filepath.Join(h, ".cache")
	}
	return append(list, filepath.Join(home, "rota", "dev-"+filepath.Base("/"+host))) // homes are shared between machines
}

// Publish lets programs of this user find c until remove is called or the process
// ends.
func Publish(lookup Lookup, c Cluster) (remove func(), err error) {
	all := dirs(lookup)
	if len(all) == 0 {
		return nil, errors.New("neither XDG_RUNTIME_DIR nor HOME is set")
	}
	for _, dir := range all {
		if remove, err = publish(dir, c); err == nil {
			sweep(dir)
			return remove, nil
		}
	}
	return nil, err
}

func publish(dir string, c Cluster) (remove func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	c.Text = c.Token.Reveal()
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "new-*") // mode 0600
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, fileOf(c.GRPC[0]))
	if _, err = f.Write(text); err == nil {
		err = lock(f)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		_ = f.Close()
		return nil, err
	}
	return func() {
		_ = os.Remove(name)
		_ = f.Close() // gives the lock back
	}, nil
}

// Find returns the cluster with a scheduler whose gRPC address, host:port, this is.
func Find(lookup Lookup, address string) (Cluster, bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !auth.Loopback(address) {
		return Cluster{}, false
	}
	hosts := []string{host}
	if host == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	for _, c := range All(lookup) {
		for _, h := range hosts {
			if slices.Contains(c.GRPC, net.JoinHostPort(h, port)) {
				return c, true
			}
		}
	}
	return Cluster{}, false
}

// All returns the clusters that live, in order of their addresses.
func All(lookup Lookup) (list []Cluster) {
	for _, dir := range dirs(lookup) {
		names, _ := filepath.Glob(filepath.Join(dir, "*"+ext))
		for _, name := range names {
			if c, err := read(dir, filepath.Base(name)); err == nil {
				list = append(list, c)
			}
		}
	}
	slices.SortFunc(list, func(a, b Cluster) int { return slices.Compare(a.GRPC, b.GRPC) })
	return list
}

// read reads the file of a cluster that lives.
func read(dir, name string) (c Cluster, err error) {
	if err := private(dir); err != nil {
		return c, err
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return c, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return c, fmt.Errorf("%s: others may read it", f.Name())
	}
	if !locked(f) {
		return c, fmt.Errorf("%s: its cluster has ended", f.Name())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, err
	}
	if len(c.GRPC) == 0 {
		return c, fmt.Errorf("%s: no address of a scheduler", f.Name())
	}
	c.Token, c.Text = auth.Secret(c.Text), ""
	return c, nil
}

// sweep removes what killed ones have left behind.
func sweep(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, "*"+ext))
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if !locked(f) {
			_ = os.Remove(name)
		}
		_ = f.Close()
	}
}

// private is nil for a directory that only its owner may use.
func private(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s: want a directory that only you may use: chmod 700 %s", dir, dir)
	}
	return nil
}

// fileOf is the name of a cluster's file.
func fileOf(address string) string {
	return strings.NewReplacer(":", "-", "/", "-", "%", "-").Replace(address) + ext
}

// Source is how clients secure their connections.
func (c Cluster) Source() (*pki.Source, error) {
	return pki.Load(pki.Files{CA: filepath.Join(c.PKI, pki.CAFile)})
}

// WorkerSource is how a worker secures its connections to a cluster of this
// user's rota dev, with a certificate that is made for it. It is nil if the first
// of the schedulers is none of such a cluster.
func WorkerSource(lookup Lookup, name string, schedulers []string) (*pki.Source, error) {
	if len(schedulers) == 0 {
		return nil, nil //nolint:nilnil // documented
	}
	c, ok := Find(lookup, schedulers[0])
	if !ok {
		return nil, nil //nolint:nilnil // documented
	}
	files, err := WorkerFiles(c.PKI, name)
	if err != nil {
		return nil, fmt.Errorf("a certificate of rota dev at %s: %w", strings.Join(c.GRPC, ", "), err)
	}
	return pki.Load(files)
}

// WorkerFiles makes a certificate for a worker of this name, by an authority's
// directory.
func WorkerFiles(dir, name string) (pki.Files, error) {
	cert, err := pki.Issue(dir, pki.Request{Role: pki.Worker, Name: name}, time.Now())
	if err != nil {
		return pki.Files{}, err
	}
	return pki.Files{CA: filepath.Join(dir, pki.CAFile), Cert: cert.File, Key: cert.Key}, nil
}
