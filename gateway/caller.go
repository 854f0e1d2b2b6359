package gateway

import (
	"net/netip"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// CallerError is an error of Config.Admit that says with what status the call is
// refused. Other errors are 403.
type CallerError struct {
	Status int
	Text   string
}

func (e *CallerError) Error() string { return e.Text }

// admitCaller asks whether the caller may call functions at all, where somebody is
// to be asked, and keeps what was said for that from the workers.
func (x *exchange) admitCaller(st *state) *CallerError {
	asked := st.cfg.Admit != nil
	if !asked && !st.cfg.DropAuthorization {
		return nil
	}
	var said []string
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.Kind == wire.Authorization {
			said = append(said, string(f.Value))
			f.Drop = true
		}
	}
	if !asked {
		return nil
	}
	from, _ := netip.ParseAddrPort(x.peer.Addr) // none is nobody
	err := st.cfg.Admit(x.context(), from, said)
	if err == nil {
		return nil
	}
	if ce, ok := err.(*CallerError); ok { //nolint:errorlint // it is what Admit returns
		return ce
	}
	return &CallerError{Status: 403, Text: "not allowed"}
}

// clientAddr is the address of the client, who may be behind trusted proxies.
func (x *exchange) clientAddr() netip.Addr {
	return x.peer.Client(x.req.Fields, x.call.st.cfg.TrustedProxies)
}

// callerOf is what rates go by where they go by the client.
func (x *exchange) callerOf() uint64 {
	return x.peer.Hash(x.req.Fields, x.call.st.cfg.TrustedProxies)
}
