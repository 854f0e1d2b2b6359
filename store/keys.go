package store

import (
	"fmt"
	"strings"
)

// The keys, relative to the root. <name>, <worker> and <source> are escaped by
// EscapeName, <page> is the lower bound of a page of package store/table. The
// values are messages of package store/storepb, written and read by package
// store/record.
//
//	key                      value      written by                     read by             lease
//	leader                   Leader     the leader, with all it does   schedulers          the scheduler's
//	schedulers/<name>        Scheduler  each scheduler                 schedulers          the scheduler's
//	sessions/<worker>        Session    the scheduler of its stream    leader, schedulers  the worker's
//	nodes/<worker>           Node       the leader                     schedulers          -
//	tasks/<page>             TaskPage   the leader                     schedulers          -
//	grants/<worker>/<page>   GrantPage  the leader                     schedulers          -
//	acks/<worker>/<page>     AckPage    the scheduler of its stream    leader, schedulers  the worker's
//	sources/<source>         Source     the leader                     schedulers          -
//	cluster                  Cluster    the leader                     schedulers          -
//	kick                     (empty)    anybody (NotifySchedule)       leader              -
//
// Every transaction of the leader compares the mod revision of the key leader
// with that of its own last transaction and writes the key again. So it is fence
// and sequence in one: another leader's transaction in between, or one of its own
// whose outcome it does not know, and the next is refused.
//
// The lease of a session is the worker's, and what it acknowledged goes with it.
// Grants outlive it: they say who may still be running something.
const (
	KeyLeader  = "leader"
	KeyCluster = "cluster"
	KeyKick    = "kick"

	PrefixSchedulers = "schedulers/"
	PrefixSessions   = "sessions/"
	PrefixNodes      = "nodes/"
	PrefixTasks      = "tasks/"
	PrefixGrants     = "grants/"
	PrefixAcks       = "acks/"
	PrefixSources    = "sources/"
)

// SchedulerKey is where a scheduler says that it is there.
func SchedulerKey(name string) string { return PrefixSchedulers + EscapeName(name) }

// SessionKey is where a worker's session is.
func SessionKey(worker string) string { return PrefixSessions + EscapeName(worker) }

// NodeKey is where it is kept what is remembered of a worker.
func NodeKey(worker string) string { return PrefixNodes + EscapeName(worker) }

// SourceKey is where it is kept what became of a source's last reading.
func SourceKey(source string) string { return PrefixSources + EscapeName(source) }

// GrantsPrefix is what the pages of a worker's grants are below.
func GrantsPrefix(worker string) string { return PrefixGrants + EscapeName(worker) + "/" }

// AcksPrefix is what the pages of a worker's acknowledgements are below.
func AcksPrefix(worker string) string { return PrefixAcks + EscapeName(worker) + "/" }

// NameOf returns the name in a key that begins with prefix: the scheduler of
// PrefixSchedulers, the worker of PrefixGrants and so on. What follows the name,
// as a page does, is left aside.
func NameOf(key, prefix string) (string, error) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return "", fmt.Errorf("store: key %q is not below %q", key, prefix)
	}
	escaped, _, _ := strings.Cut(rest, "/")
	name, err := UnescapeName(escaped)
	if err != nil {
		return "", fmt.Errorf("store: key %q: %w", key, err)
	}
	return name, nil
}

const hexDigits = "0123456789ABCDEF"

// EscapeName writes a name, of any bytes, as one printable element of a key: '/',
// '%' and all but printable ASCII as '%' and two digits.
func EscapeName(name string) string {
	n := 0
	for i := range len(name) {
		if escaped(name[i]) {
			n++
		}
	}
	if n == 0 {
		return name
	}
	out := make([]byte, 0, len(name)+2*n)
	for i := range len(name) {
		if b := name[i]; escaped(b) {
			out = append(out, '%', hexDigits[b>>4], hexDigits[b&15])
		} else {
			out = append(out, b)
		}
	}
	return string(out)
}

func escaped(b byte) bool { return b <= ' ' || b >= 0x7f || b == '/' || b == '%' }

// UnescapeName reads what EscapeName wrote, and only that.
func UnescapeName(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		b := s[i]
		switch {
		case b == '%':
			if i+2 >= len(s) {
				return "", fmt.Errorf("name %q: escape %q is cut off", s, s[i:])
			}
			hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
			if hi < 0 || lo < 0 || !escaped(byte(hi<<4|lo)) {
				return "", fmt.Errorf("name %q: %q is no escape", s, s[i:i+3])
			}
			b = byte(hi<<4 | lo)
			i += 2
		case escaped(b):
			return "", fmt.Errorf("name %q: byte %#02x is not escaped", s, b)
		}
		out = append(out, b)
	}
	return string(out), nil
}
