package cli

import (
	"fmt"
	"slices"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// What etcd is to be, and when its quota is spoken of.
const (
	defaultQuota = 2 << 30
	quotaWarn    = 0.7
	quotaFail    = 0.95
)

// checkStore checks the members of etcd, and what is in it.
func checkStore(c *checks, s *rotav1.Status) {
	leader, answer := false, 0
	for _, m := range s.GetStore() {
		name := "etcd " + m.GetEndpoint()
		if m.GetError() != "" {
			c.add(checkFail, name, "start this member, or repair the network path to it", "%s%s", m.GetError(), askedText(m))
			continue
		}
		answer++
		leader = leader || m.GetLeader()
		quota, said := m.GetQuotaBytes(), ""
		if quota <= 0 {
			quota, said = defaultQuota, " (etcd's default: the member does not report it)"
		}
		share := float64(m.GetDbBytes()) / float64(quota)
		text := fmt.Sprintf("version %s, %s of a quota of %s%s, answers in %.1f ms", m.GetVersion(), bytesText(m.GetDbBytes()), bytesText(quota), said, m.GetLatencyMs())
		status, mend := checkOK, ""
		for _, alarm := range m.GetAlarms() {
			text += ", alarm " + alarm
		}
		text += askedText(m)
		switch {
		case slices.Contains(m.GetAlarms(), "CORRUPT"):
			status, mend = checkFail, "remove this member and add it again; its data differs from the others'"
		case slices.Contains(m.GetAlarms(), "NOSPACE"):
			status, mend = checkFail, "compact, defragment, then etcdctl alarm disarm (docs/etcd.md)"
		case share >= quotaFail:
			status, mend = checkFail, "compact and defragment, or raise --quota-backend-bytes (docs/etcd.md)"
		case share >= quotaWarn:
			status, mend = checkWarn, "defragment, or raise --quota-backend-bytes (docs/etcd.md)"
		case oldEtcd(m.GetVersion()):
			status, mend = checkWarn, "use 3.5.8 or newer (docs/etcd.md)"
		case m.GetLatencyMs() > 250:
			status, mend = checkWarn, "check its disk and network"
		}
		c.add(status, name, mend, "%s", text)
	}
	if answer > 0 && !leader && answer == len(s.GetStore()) {
		c.add(checkWarn, "etcd", "list every member in --etcd", "none of the members that the schedulers use is etcd's leader")
	}
	for _, u := range s.GetUnread() {
		text := "cannot be read: " + u.GetError()
		if u.GetLost() {
			text += ", and its content is unknown"
		}
		c.add(checkFail, "value "+u.GetKey(), "see docs/etcd.md, Values that cannot be read", "%s", text)
	}
}

// oldEtcd reports whether a version of etcd is older than what is needed.
func oldEtcd(version string) bool {
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return false
	}
	return slices.Compare([]int{major, minor, patch}, []int{3, 5, 8}) < 0
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}
