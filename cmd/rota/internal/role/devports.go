package role

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// schedulerName is the name of the n-th of several schedulers.
func schedulerName(n int) string { return fmt.Sprint("s", n+1) }

// openPorts opens the ports of all schedulers: those of the first where the options say,
// those of the others anywhere on the same host.
func (d *dev) openPorts(ctx context.Context) error {
	peers, err := d.keptPeers()
	if err != nil {
		return err
	}
	for n := range d.cfg.Schedulers {
		p := &ports{}
		d.ports = append(d.ports, p)
		for _, o := range []struct {
			name, addr string
			any        bool
			to         *net.Listener
		}{{"grpc", d.cfg.GRPC, d.cfg.AnyGRPC, &p.grpc}, {"http", d.cfg.HTTP, d.cfg.AnyHTTP, &p.http}, {"gateway", d.cfg.Gateway, d.cfg.AnyGateway, &p.gateway}} {
			if o.addr == "" {
				continue
			}
			if n > 0 {
				o.addr = anyPort(o.addr)
			}
			l, moved, err := listen(ctx, o.name, o.addr, o.any)
			if err != nil {
				return err
			}
			*o.to = l
			if n == 0 && moved {
				d.moved = append(d.moved, o.name)
			}
		}
		if d.cfg.Schedulers == 1 {
			continue
		}
		addr := anyPort(d.cfg.GRPC)
		if kept := peers[schedulerName(n)]; kept != "" {
			addr = kept
		}
		if p.peer, _, err = listen(ctx, "peer port of "+schedulerName(n), addr, false); err != nil {
			return err
		}
	}
	return d.keepPeers()
}

func (d *dev) closePorts() {
	for _, p := range d.ports {
		p.close()
	}
}

// anyPort is a free port of an address's host.
func anyPort(addr string) string {
	host, _, _ := net.SplitHostPort(addr) // config has checked it
	return net.JoinHostPort(host, "0")
}

// elsewhere says that an option's address was in use, where somebody could expect it.
func (d *dev) elsewhere(option, from string) string {
	if slices.Contains(d.moved, option) && !strings.HasSuffix(from, ":0") { // that asked for any
		return "   (" + from + " is in use)"
	}
	return ""
}

// functionsAt says where a scheduler's gateway is.
func functionsAt(p *ports) string {
	if p.gateway == nil {
		return ""
	}
	return fmt.Sprintf(", functions http://%s/run/", p.gateway.Addr())
}

// members are the addresses of the peer ports by name, as --cluster has them.
func (d *dev) members() map[string]string {
	all := map[string]string{}
	for n, p := range d.ports {
		all[schedulerName(n)] = p.peer.Addr().String()
	}
	return all
}

// peersFile is where a data directory of several schedulers has members: what they keep
// of each other is addresses.
func (d *dev) peersFile() string { return filepath.Join(d.cfg.DataDir, "schedulers.json") }

// keptPeers are the members that a data directory is of; nil of one that has none.
func (d *dev) keptPeers() (members map[string]string, err error) {
	if d.cfg.DataDir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(d.peersFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &members)
	}
	if err != nil {
		return nil, fmt.Errorf("dev: %s: %w", d.peersFile(), err)
	}
	return members, nil
}

// keepPeers writes them into a data directory.
func (d *dev) keepPeers() error {
	if d.cfg.DataDir == "" || d.cfg.Schedulers == 1 {
		return nil
	}
	text, err := json.Marshal(d.members())
	if err == nil {
		err = os.MkdirAll(d.cfg.DataDir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(d.peersFile(), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	return nil
}

// checkDir holds a data directory to the number of schedulers that it is of.
func (d *dev) checkDir() error {
	if d.cfg.DataDir == "" {
		return nil
	}
	members, err := d.keptPeers()
	if err != nil {
		return err
	}
	n := len(members)
	if n == 0 {
		if _, err := os.Stat(filepath.Join(d.cfg.DataDir, "member")); err == nil { // an etcd's own
			n = 1
		}
	}
	if n != 0 && n != d.cfg.Schedulers {
		return &rota.FieldError{Field: "schedulers", Value: d.cfg.Schedulers, Want: fmt.Sprintf("%d: the data directory %s belongs to a cluster of that size", n, d.cfg.DataDir)}
	}
	return nil
}
