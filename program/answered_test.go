package program

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestAnswerOfOneThatEnded: an answer that was given before its task ended counts,
// though the word of the end is faster; one that never comes is told as ErrGone.
func TestAnswerOfOneThatEnded(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]bool{"answers": true, "dies": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var e endpoint
				to := &peer{}
				m, err := e.ask(t.Context(), to, func(tag uint64) error {
					e.gone(to)
					if answers {
						time.AfterFunc(onItsWay/2, func() {
							e.answered(to, Msg{Data: []byte("x"), tag: tag>>kindBits<<kindBits | kindResponse})
						})
					}
					return nil
				})
				if answers && (err != nil || string(m.Data) != "x") || !answers && !errors.Is(err, ErrGone) {
					t.Errorf("%q, %v", m.Data, err)
				}
			})
		})
	}
}
