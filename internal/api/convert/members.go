package convert

import (
	"strings"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/store"
)

// MembersToProto are the members of the store as the API shows them.
func MembersToProto(members []store.Member) []*rotav1.StoreMember {
	out := make([]*rotav1.StoreMember, len(members))
	for n, m := range members {
		out[n] = &rotav1.StoreMember{
			Endpoint: m.Endpoint, Version: m.Version, DbBytes: m.DBBytes, DbInUseBytes: m.InUseBytes, QuotaBytes: m.QuotaBytes,
			Leader: m.Leader, LatencyMs: float64(m.Latency) / float64(time.Millisecond), Alarms: m.Alarms,
		}
		if !m.Asked.IsZero() {
			out[n].AgeMs = time.Since(m.Asked).Milliseconds()
		}
		if m.Err != nil {
			out[n].Error = Shown(m.Err)
		}
	}
	return out
}

// Shown is an error for people: without secrets, as valid UTF-8.
func Shown(err error) string { return strings.ToValidUTF8(address.Error(err).Error(), "?") }
