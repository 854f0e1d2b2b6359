package pki

import "time"

const (
	// remindBefore is how long before its end a certificate is spoken of.
	remindBefore = 7 * 24 * time.Hour
	// remindEvery is how often it is spoken of while days are left, and
	// remindSoon when less than a day is, or none.
	remindEvery = 12 * time.Hour
	remindSoon  = time.Hour
)

// Reminder says when somebody should hear that a certificate ends: seldom at
// first, and again once another one ends. The zero value is ready; it is for one
// goroutine.
type Reminder struct{ end, told time.Time }

// Due reports whether the end, as Source.Expires says it, should be spoken of
// now. It never is of a certificate that is not there.
func (r *Reminder) Due(end, now time.Time) bool {
	left := end.Sub(now)
	if end.IsZero() || left >= remindBefore {
		return false
	}
	every := remindEvery
	if left < 24*time.Hour {
		every = remindSoon
	}
	if r.end.Equal(end) && now.Sub(r.told) < every {
		return false
	}
	r.end, r.told = end, now
	return true
}
