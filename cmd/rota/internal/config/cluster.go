package config

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/store/etcd"
)

// PeerAddress is where a scheduler of a cluster listens for the others.
func (c *Scheduler) PeerAddress() string { return cmp.Or(c.Peer, c.Cluster[c.Name]) }

// member checks the schedulers of a cluster.
func (c *Scheduler) member() error {
	if len(c.Cluster) == 0 {
		return nil
	}
	if len(c.Etcd) > 0 {
		return errors.New("want only one of cluster and etcd: each says where the store is")
	}
	if err := etcd.CheckMembers(c.Cluster); err != nil {
		return ownWords(err)
	}
	if c.Join {
		return needed(len(c.Cluster) > 1, "at least one member to ask beside this scheduler")
	}
	return ownWords(etcd.CheckNumber(len(c.Cluster)))
}

// among checks that a scheduler of a cluster is one of it.
func (c *Scheduler) among() error {
	if len(c.Cluster) == 0 {
		return nil
	}
	return ownWords(etcd.CheckMember(c.Name, c.Cluster))
}

// ownWords is an error of a field without the field's name, which the rule says.
func ownWords(err error) error {
	var fe *rota.FieldError
	if errors.As(err, &fe) {
		return want(fmt.Sprint(fe.Value), "%s", fe.Want)
	}
	return err
}

// guarded: off loopback a peer port takes TLS, or somebody who says that it need not.
func (c *Scheduler) guarded() error {
	addr := c.PeerAddress()
	if len(c.Cluster) == 0 || c.TLS || c.PeerInsecure || auth.Loopback(addr) {
		return nil
	}
	return want(addr, "tls, tls_cert, tls_key and tls_ca: without them whoever reaches this port can read and change everything; peer_insecure allows it")
}

// optionalAddressToListen also takes ":port", all addresses.
func optionalAddressToListen(addr string) error {
	if addr == "" {
		return nil
	}
	_, _, err := splitAddress(addr, "an address such as 0.0.0.0:2380")
	return err
}
