package etcd

// ErrStreamBroken is what a renewal answers whose stream breaks.
var ErrStreamBroken = errStreamBroken

// BreakRenewals breaks the streams of renewals that are open.
func (s *Store) BreakRenewals() {
	r, _ := s.members[0].renewals.(*renewals)
	for n := range r.all {
		r := &r.all[n]
		r.mu.Lock()
		if r.stream != nil {
			r.broken(errStreamBroken)
		}
		r.mu.Unlock()
	}
}
