package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	"google.golang.org/protobuf/proto"
)

// strayLeases is how many leases a key lasts that says that somebody lives, that
// somebody else wrote, and of which no scheduler knows whose it was. Whoever lives
// writes it anew long before.
const strayLeases = 6

// bindStrays binds keys that should go with somebody's lease, and do not, to that lease,
// and writes again what was there if it was known. One whose lease has ended is removed.
// One of which nothing is known goes after strayLeases, unless its owner takes it up
// meanwhile.
func (s *Scheduler) bindStrays(ctx context.Context) {
	var strays []table.Unread
	s.view.Read(func() {
		for _, u := range s.view.Unread() {
			if s.view.GoesWithLease(u.Key) {
				strays = append(strays, u)
			}
		}
	})
	for _, u := range strays {
		one, cancel := context.WithTimeout(ctx, s.cfg.Lease)
		err := s.bindStray(one, u)
		cancel()
		if err != nil {
			s.log.Warn("a key without a lease was not repaired", "key", u.Key, "error", err)
		}
	}
}

func (s *Scheduler) bindStray(ctx context.Context, u table.Unread) error {
	st := s.cfg.Store
	kv, ok, _, err := st.Get(ctx, u.Key)
	if err != nil || !ok || kv.Mod != u.Revision {
		return err // it is mended, or gone
	}
	as := []store.Cond{{Key: u.Key, By: store.ByMod, Revision: kv.Mod}}
	value, lease, over, err := s.owner(u)
	if err != nil || kv.Lease != 0 && (lease == 0 || lease == kv.Lease) {
		return err // it goes with its lease, or is taken up by whoever lives
	}
	if lease != 0 {
		_, _, err := st.Txn(ctx, as, []store.Op{{Key: u.Key, Value: value, Lease: lease}})
		if !errors.Is(err, store.ErrLeaseNotFound) {
			return err
		}
	}
	if over {
		_, _, err := st.Txn(ctx, as, []store.Op{{Key: u.Key, Delete: true}})
		return err
	}
	lease, _, err = st.Grant(ctx, strayLeases*s.cfg.Lease)
	if err != nil {
		return fmt.Errorf("make a lease: %w", err)
	}
	ok, _, err = st.Txn(ctx, as, []store.Op{{Key: u.Key, Value: kv.Value, Lease: lease}})
	if err == nil && !ok {
		return st.Revoke(ctx, lease) // another was faster
	}
	return err
}

// owner is what is known of a key that says that somebody lives: its value as it was,
// and the lease of whoever it is of, 0 if it is not known. over says that nobody lives
// any more if that lease has ended, or is none.
func (s *Scheduler) owner(u table.Unread) (value []byte, lease store.LeaseID, over bool, err error) {
	var known proto.Message
	v := s.view
	v.Read(func() {
		if name, ok := store.NameIn(store.SessionsPrefix, u.Key); ok {
			if m := v.Sessions[name]; m != nil {
				known, lease = m.Session, store.LeaseID(m.GetLease())
			}
		} else if name, ok := store.NameIn(store.ProgramsPrefix, u.Key); ok {
			if m := v.Programs[name]; m != nil {
				known, lease = m, store.LeaseID(m.GetLease())
			}
		} else if k, name := v.TakerIn(u.Key); k != nil {
			m, session := v.Takers[k][name], v.Sessions[name]
			if m != nil && session != nil && m.GetIncarnation() == session.GetIncarnation() {
				known, lease = m, store.LeaseID(session.GetLease())
			}
			over = session == nil // it goes with the session, and is nothing without
		} else if u.Key == store.SchedulerKey(s.cfg.Name) {
			known, lease = s.itself(), store.LeaseID(s.lease.Load())
		}
	})
	if lease == 0 {
		return nil, 0, over, nil
	}
	// A value that somebody else wrote, and that can be read, may name any lease.
	over = over || !errors.Is(u.Err, view.ErrUnbound)
	value, err = record.Encode(known)
	return value, lease, over, err
}

// itself is what this scheduler says of itself.
func (s *Scheduler) itself() *storepb.Scheduler {
	return &storepb.Scheduler{Version: record.Version, Name: s.cfg.Name, Grpc: s.cfg.GRPC, Http: s.cfg.HTTP}
}
