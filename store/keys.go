package store

import (
	"net/url"
	"strings"
)

// The keys, below the root that the store was opened with. Values are protobuf
// messages of package storepb that begin with a version.
//
//	key                     value      written by                  read by     gone with
//	leader                  Leader     the leader                  all         the leader's lease
//	schedulers/<name>       Scheduler  that scheduler              all         the scheduler's lease
//	sessions/<worker>       Session    the worker's scheduler      all         the worker's lease
//	nodes/<worker>          Node       leader, API                 all
//	tasks/<page>            TaskPage   API, leader (sources)       all
//	grants/<worker>/<page>  GrantPage  the leader                  all
//	acks/<worker>/<page>    AckPage    the worker's scheduler      all         the worker's lease
//	sources/<name>          Source     the leader                  API
//	cluster                 Cluster    the leader                  all
//	kick                    (any)      API                         the leader
//	join                    (empty)    schedulers, to join workers one by one where their number is limited
//
// Every transaction of the leader compares the modification revision of leader
// and writes it again: the key is fence and sequence in one. A transaction that
// comes late finds another revision there and does nothing.
const (
	LeaderKey        = "leader"
	ClusterKey       = "cluster"
	KickKey          = "kick"
	JoinKey          = "join"
	SchedulersPrefix = "schedulers/"
	SessionsPrefix   = "sessions/"
	NodesPrefix      = "nodes/"
	SourcesPrefix    = "sources/"
	TasksPrefix      = "tasks/"
	GrantsPrefix     = "grants/"
	AcksPrefix       = "acks/"
)

// SchedulerKey is the key of a scheduler.
func SchedulerKey(name string) string { return SchedulersPrefix + escape(name) }

// SessionKey is the key of a living worker.
func SessionKey(worker string) string { return SessionsPrefix + escape(worker) }

// NodeKey is the key of what is remembered of a worker.
func NodeKey(worker string) string { return NodesPrefix + escape(worker) }

// SourceKey is the key of a source's state.
func SourceKey(name string) string { return SourcesPrefix + escape(name) }

// WorkerGrants is the prefix of a worker's pages of grants.
func WorkerGrants(worker string) string { return GrantsPrefix + escape(worker) + "/" }

// WorkerAcks is the prefix of a worker's pages of acknowledgements.
func WorkerAcks(worker string) string { return AcksPrefix + escape(worker) + "/" }

// NameIn answers the name in a key of one of the prefixes above: what stands
// between the prefix and the next slash, or the end.
func NameIn(prefix, key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "/")
	name, err := url.PathUnescape(rest)
	return name, err == nil && name != ""
}

// escape makes any name one path segment.
func escape(name string) string { return url.PathEscape(name) }
