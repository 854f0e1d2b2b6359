package program

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/rota-project/rota/internal/program/link"
)

// Host runs the tasks of programs in a worker of a cluster. It is for package worker;
// programs do not need it.
type Host struct {
	// Functions are the functions that the worker offers.
	Functions Functions

	addresses func() []string
	relays    *relays
}

// NewHost returns a host that connects to relays at the addresses that addresses returns
// (and at those that programs name), with TLS unless conf returns nil. The caller must
// close it.
func NewHost(conf func() *tls.Config, addresses func() []string) *Host {
	return &Host{addresses: addresses, relays: newRelays(link.NewNode(link.NodeConfig{}), dialer(conf, false))}
}

// Run runs the task that payload describes, the payload of a cluster task, until ctx ends.
// Ctx is the grant: when it ends, the task's channel in is closed.
func (h *Host) Run(ctx context.Context, payload []byte) error {
	var o order
	if err := json.Unmarshal(payload, &o); err != nil {
		return fmt.Errorf("a program's order that cannot be read: %w", err)
	}
	if err := o.check(); err != nil {
		return err
	}
	h.relays.connect(slices.Concat(h.addresses(), o.Relays)) // from the first task on
	serveGranted(ctx, h.relays.node, &h.Functions, o)
	<-ctx.Done() // the task has ended and said how; the program removes it
	return nil
}

// Close closes the connections.
func (h *Host) Close() { h.relays.close() }
