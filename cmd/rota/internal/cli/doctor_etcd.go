package cli

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// askRoot asks the store of a peer cluster how that is.
func (a *app) askRoot(ctx context.Context, c *checks, got *asked) error {
	name := "replicas of " + a.client.etcd.root
	conn, err := a.connectEtcd(ctx)
	a.conn = nil // it is closed below
	if err == nil {
		err = got.ask(ctx, c, conn, name)
	}
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return usage
	} else if err != nil {
		c.add(checkFail, name, "give its address with --etcd and --root, and check that etcd has a quorum", "%s", oneLine(err))
	}
	got.clocks = nil // it was this process that answered
	return nil
}

// askEtcd asks the members of etcd from this machine.
func (a *app) askEtcd(ctx context.Context, c *checks) error {
	conf := a.client.etcd.config(store.DefaultRoot)
	members, err := etcd.Inspect(ctx, conf)
	if err != nil {
		return flagError(err)
	}
	checkStore(c, &rotav1.Status{Store: convert.MembersToProto(members)})
	began := time.Now()
	st, err := etcd.Open(ctx, conf) // it reads
	if err == nil {
		_ = st.Close() // nothing was written
	}
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		c.add(checkWarn, "etcd quorum", "", "this etcd user may not read rota's keys: the data was not checked")
	case err != nil:
		c.add(checkFail, "etcd quorum", "start members until more than half of them run, or give credentials: --etcd-ca, --etcd-cert, --etcd-key, --etcd-user", "no answer from a quorum: %s", oneLine(err))
	default:
		c.add(checkOK, "etcd quorum", "", "answers within %v", time.Since(began).Round(time.Millisecond))
	}
	return nil
}
