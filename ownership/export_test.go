package ownership

// Size is everything that the ledger remembers, to find what it never forgets.
func (l *Ledger) Size() int {
	n := len(l.entries) + len(l.sessions) + len(l.leaving) + len(l.holds) + len(l.blocked) + len(l.due) +
		len(l.moves.byWorker) + len(l.moves.waiting.members)
	for _, q := range l.moves.parked {
		n += 1 + len(q.members)
	}
	return n
}

// Size is everything that the holder remembers.
func (h *Holder) Size() int {
	return len(h.sent) + len(h.items) + len(h.acks) + len(h.timed.members)
}
