package simtest

import (
	"context"
	"math/rand/v2"
	"strings"

	"github.com/rota-project/rota/store"
)

// garbage has somebody who should not write nonsense over what the cluster goes by:
// a page or patch of grants or of acknowledgements, a session's key, or the leader's,
// without the lease that they have. What it does to tasks is not tried here: what no
// scheduler has read is then no longer declared. Nor are versions to come: no scheduler
// starts beside them.
func (d *driver) garbage(hand *rand.Rand) {
	kvs, _, err := d.store.Range(context.Background(), "")
	if err != nil {
		return
	}
	var keys []store.KV
	for _, kv := range kvs {
		if strings.HasPrefix(kv.Key, store.GrantsPrefix) || strings.HasPrefix(kv.Key, store.AcksPrefix) ||
			strings.HasPrefix(kv.Key, store.SessionsPrefix) || kv.Key == store.LeaderKey {
			keys = append(keys, kv)
		}
	}
	if len(keys) == 0 {
		return
	}
	kv := keys[hand.IntN(len(keys))]
	var value []byte
	switch hand.IntN(3) {
	case 0:
		value = []byte("garbage")
	case 1:
		value = kv.Value[:hand.IntN(max(len(kv.Value), 1))]
	}
	if _, _, err := d.store.Txn(context.Background(), nil, []store.Op{{Key: kv.Key, Value: value}}); err != nil {
		return
	}
	d.history.count(func(n *Counts) { n.Garbage++ })
	if strings.HasPrefix(kv.Key, store.SessionsPrefix) {
		d.strays = true
	}
	d.history.note("somebody writes %q to %s", value, kv.Key)
}
