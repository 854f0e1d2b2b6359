package scheduler

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store/memory"

	"pgregory.net/rapid"
)

// TestOneWriteANode: whatever became of workers one after the other, each has one write,
// as no transaction may write a key twice: a leader would try it again for ever.
func TestOneWriteANode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		st := memory.New()
		defer st.Close()
		v := view.New(st, slog.New(slog.DiscardHandler))
		now := time.Unix(1e9, 0)
		names := []string{"a", "b"}
		for _, name := range names {
			if rapid.Bool().Draw(t, "known") {
				n := &storepb.Node{Name: name, Last: &storepb.Session{Name: name}}
				if rapid.Bool().Draw(t, "lost long ago") {
					n.LostUnixMs = 1
				}
				v.Nodes[name] = n
			}
		}
		o := nodeWrites{prune: rapid.Bool().Draw(t, "prune")}
		last := map[string]string{}
		for range rapid.IntRange(0, 6).Draw(t, "events") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			what := rapid.SampledFrom([]string{"lost", "left", "over"}).Draw(t, "what")
			switch what {
			case "lost":
				o.lost(name, nil, nil)
			case "left":
				o.left(name)
			default:
				o.over(name)
			}
			last[name] = what
		}
		var seen []string
		for _, w := range o.list(v, now, time.Hour) {
			name := w.node.GetName()
			if slices.Contains(seen, name) {
				t.Fatalf("%s is written twice", name)
			}
			seen = append(seen, name)
			if last[name] == "lost" && w.node.GetLostUnixMs() != now.UnixMilli() {
				t.Fatalf("%s was lost last, and %v is written", name, w.node)
			}
		}
	})
}
