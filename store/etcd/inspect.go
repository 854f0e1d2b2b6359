package etcd

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/store"
)

var _ store.Inspector = (*Store)(nil)

// Inspect implements store.Inspector: it asks each endpoint, all at once, for at most
// the time of a request.
func (s *Store) Inspect(ctx context.Context) []store.Member {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	type place struct {
		member   *member
		endpoint string
	}
	var places []place
	for _, m := range s.members {
		for _, e := range m.endpoints() {
			places = append(places, place{m, e})
		}
	}
	out := make([]store.Member, len(places))
	ids := make([]uint64, len(places))
	alarms := map[uint64][]string{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for i, p := range places {
		asked.Go(func() {
			o := &out[i]
			o.Endpoint, o.Asked = address.Show(p.endpoint), time.Now()
			client, _, err := p.member.connection()
			if err != nil {
				o.Err = err
				return
			}
			began := time.Now()
			st, err := client.Status(ctx, p.endpoint)
			if err != nil {
				o.Err = err
				return
			}
			o.Latency = time.Since(began)
			ids[i] = st.Header.MemberId
			o.Version, o.DBBytes, o.InUseBytes, o.QuotaBytes = st.Version, st.DbSize, st.DbSizeInUse, st.DbSizeQuota
			o.Leader = st.Leader == st.Header.MemberId
			list, err := client.AlarmList(ctx)
			if err != nil {
				return // whoever has no leader cannot say
			}
			mu.Lock()
			defer mu.Unlock()
			clear(alarms)
			for _, a := range list.Alarms {
				alarms[a.MemberID] = append(alarms[a.MemberID], a.Alarm.String())
			}
		})
	}
	asked.Wait()
	for i := range out {
		if out[i].Err == nil {
			out[i].Alarms = alarms[ids[i]]
		}
	}
	return out
}

// Inspect asks the members at the endpoints of cfg how they are. Open waits for an
// answer that a quorum agrees to; this does not. An error names the field that is wrong.
func Inspect(ctx context.Context, cfg Config) ([]store.Member, error) {
	cc, err := clientConfig(cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{timeout: cmp.Or(cfg.RequestTimeout, DefaultRequestTimeout)}
	for _, e := range cfg.Endpoints {
		s.members = append(s.members, newMember(cc, e))
	}
	out := s.Inspect(ctx)
	for _, m := range s.members {
		_ = m.close() // it was only read
	}
	return out, nil
}
