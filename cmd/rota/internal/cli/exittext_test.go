package cli

import (
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// TestExitText: the exit status is said once, whoever says it.
func TestExitText(t *testing.T) {
	t.Parallel()
	three := int64(3)
	for _, c := range []struct {
		text string
		code *int64
		want string
	}{
		{"", nil, ""},
		{"", &three, "exit status 3"},
		{"feed: exit status 3: no", &three, "feed: exit status 3: no"},
		{"feed: exit status 4: no", &three, "feed: exit status 4: no; exit status 3"},
	} {
		if got := eventText(&rotav1.Event{Text: c.text, ExitCode: c.code}); got != c.want {
			t.Errorf("%q with %v: %q, want %q", c.text, c.code, got, c.want)
		}
	}
}
