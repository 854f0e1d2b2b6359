package role

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// ports are where a scheduler listens. gateway and peer are nil until it is known that
// they are needed.
type ports struct{ grpc, http, gateway, peer net.Listener }

// all are the ports by their options.
func (p *ports) all() map[string]*net.Listener {
	return map[string]*net.Listener{"grpc": &p.grpc, "http": &p.http, "gateway": &p.gateway, "peer": &p.peer}
}

func (p *ports) close() {
	for _, l := range p.all() {
		if *l != nil {
			_ = (*l).Close()
		}
	}
}

// portsEnv names the ports that a scheduler of rota dev is handed by the process that
// started it: the options of descriptors 3 and on. So nobody else can take a port
// between the moment that it is found and the moment that the scheduler listens.
const portsEnv = "ROTA_PORTS"

// handOver are the ports as the files of a process, with the variable that says which
// they are.
func (p *ports) handOver() (files []*os.File, env string, err error) {
	var names []string
	for name, l := range p.all() {
		if *l == nil {
			continue
		}
		tcp, ok := (*l).(*net.TCPListener)
		if !ok {
			closeAll(files)
			return nil, "", fmt.Errorf("%s: %T is not a TCP port", name, *l)
		}
		f, err := tcp.File()
		if err != nil {
			closeAll(files)
			return nil, "", fmt.Errorf("%s: %w", name, err)
		}
		files, names = append(files, f), append(names, name)
	}
	return files, portsEnv + "=" + strings.Join(names, ","), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// inheritedPorts are the ports that this process was handed; nil if there are none.
// What it starts is told of none.
func inheritedPorts() (*ports, error) {
	names, ok := os.LookupEnv(portsEnv)
	if !ok {
		return nil, nil //nolint:nilnil // documented
	}
	if err := os.Unsetenv(portsEnv); err != nil {
		return nil, err
	}
	p := &ports{}
	for i, name := range strings.Split(names, ",") {
		to := p.all()[name]
		if to == nil {
			p.close()
			return nil, fmt.Errorf("%s: %q: want grpc, http, gateway or peer", portsEnv, name)
		}
		f := os.NewFile(uintptr(3+i), name)
		l, err := net.FileListener(f)
		_ = f.Close() // l has its own
		if err != nil {
			p.close()
			return nil, fmt.Errorf("%s: %s: %w", portsEnv, name, err)
		}
		*to = l
	}
	if p.grpc == nil || p.http == nil {
		p.close()
		return nil, fmt.Errorf("%s: %q: want grpc and http at least", portsEnv, names)
	}
	return p, nil
}
