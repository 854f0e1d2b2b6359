package store

import (
	"net/url"
	"strings"
)

// The keys, below the root that the store was opened with (see ClusterRoot). Values are protobuf
// messages of package storepb that begin with a version.
//
//	key                     value      written by                  read by     gone with
//	leader                  Leader     the leader                  all         the leader's lease
//	schedulers/<name>       Scheduler  that scheduler              all         the scheduler's lease
//	sessions/<worker>       Session    the worker's scheduler      all         the worker's lease
//	nodes/<worker>          Node       leader, API, the worker's scheduler when it joins  all
//	tasks/<page>            TaskPage   API, leader (sources)       all
//	grants/<worker>/<page>  GrantPage  the leader                  all
//	acks/<worker>/<page>    AckPage    the worker's scheduler      all         the worker's lease
//	sources/<name>          Source     the leader, API (to confirm)  all
//	cluster                 Cluster    the leader                  all
//	suspects                Suspects   the leader, API (to release)  all
//	programs/<name>         Program    the program's scheduler     all         the lease of its scheduler function
//	ended/<name>            Program    the leader                  API         an hour after the program's end
//	histories/<name>        ProgramHistory  the program's scheduler  the same
//	kick                    (any)      API                         the leader
//	join                    (empty)    schedulers, to join workers one by one where their number is limited
//	jobs/<id>               JobSpec    API                         schedulers  its time to keep
//	jobstates/<id>          JobState   leader, worker's scheduler  schedulers  its time to keep
//	jobschedules/<name>     JobSchedule  API                       schedulers  the API
//	jobschedulestates/<name>  JobScheduleState  the leader         schedulers  its schedule
//	jobfences/<scheduler>   (empty)    that scheduler, of its declarations of jobs  never
//	apifences/<scheduler>   (empty)    that scheduler, of what the API asks for     never
//	poolfences/<scheduler>  (empty)    that scheduler, of pools                     never
//	jobworkers/<worker>     JobWorker  the worker's scheduler      schedulers  the worker's lease
//	oldworkers/<id>         OldWorker  the scheduler it is at      schedulers  that scheduler, when the worker is gone
//	logins/<hash>           SignIn     any scheduler               all         its lease, of its time at most
//	logincodes/<hash>       SignIn     any scheduler               any         its lease, of a minute; its use
//	events/<shelf>/<page>   EventPage  a scheduler, once           schedulers  its time to be kept: any scheduler that writes another, the leader
//	pools/<name>            Pool       API                         schedulers  the API, when its workers are gone the leader
//	poolstates/<name>       PoolState  the leader                  schedulers  its pool
//	poolworkers/<worker>    PoolWorker  the leader, the scheduler that it joins at  schedulers  the leader, when the worker is gone
//	engines                 Engines    the leader                  schedulers
//
// Every transaction of the leader compares the modification revision of leader
// and writes it again: the key is fence and sequence in one. A transaction that
// comes late finds another revision there and does nothing.
//
// Jobs have a key each, not pages: they come and change by themselves, at every
// scheduler, and each write compares the modification revision of its own job
// and of no other; many are written in one transaction all the same. The large
// part, what was asked for, is written once.
const (
	LeaderKey               = "leader"
	ClusterKey              = "cluster"
	SuspectsKey             = "suspects"
	KickKey                 = "kick"
	JoinKey                 = "join"
	SchedulersPrefix        = "schedulers/"
	SessionsPrefix          = "sessions/"
	NodesPrefix             = "nodes/"
	SourcesPrefix           = "sources/"
	ProgramsPrefix          = "programs/"
	EndedPrefix             = "ended/"
	HistoriesPrefix         = "histories/"
	TasksPrefix             = "tasks/"
	GrantsPrefix            = "grants/"
	AcksPrefix              = "acks/"
	JobsPrefix              = "jobs/"
	JobStatesPrefix         = "jobstates/"
	JobSchedulesPrefix      = "jobschedules/"
	JobScheduleStatesPrefix = "jobschedulestates/"
	// The fences of a scheduler: they keep out what it may have on its way, see package commit.
	JobFencesPrefix  = "jobfences/"
	APIFencesPrefix  = "apifences/"
	PoolFencesPrefix = "poolfences/"
	JobWorkersPrefix = "jobworkers/"
	OldWorkersPrefix = "oldworkers/"
	SignInsPrefix    = "logins/"
	SignInCodes      = "logincodes/"
	EventsPrefix     = "events/"
	PoolsPrefix      = "pools/"
	PoolStatesPrefix = "poolstates/"
	// PoolWorkersPrefix has workers that engines were asked to start.
	PoolWorkersPrefix = "poolworkers/"
	EnginesKey        = "engines"
)

// The roots of clusters on one etcd. No root is a prefix of another's, whatever the
// names are: a cluster of schedulers is <root>/ns/<namespace>/, one of replicas
// (package peer) is rota/peers/<root>/.

// DefaultRoot is the root of clusters of schedulers that name none.
const DefaultRoot = "rota"

// ClusterRoot is what the keys of a cluster of schedulers begin with.
func ClusterRoot(root, namespace string) string {
	return escape(root) + "/ns/" + escape(namespace) + "/"
}

// PeerRoot is what the keys of a cluster of replicas begin with.
func PeerRoot(root string) string { return DefaultRoot + "/peers/" + escape(root) + "/" }

// SchedulerKey is the key of a scheduler.
func SchedulerKey(name string) string { return SchedulersPrefix + escape(name) }

// SessionKey is the key of a living worker.
func SessionKey(worker string) string { return SessionsPrefix + escape(worker) }

// NodeKey is the key of what is remembered of a worker.
func NodeKey(worker string) string { return NodesPrefix + escape(worker) }

// SourceKey is the key of a source's state.
func SourceKey(name string) string { return SourcesPrefix + escape(name) }

// ProgramKey is the key of a running program.
func ProgramKey(name string) string { return ProgramsPrefix + escape(name) }

// EndedKey is the key of a program that has ended.
func EndedKey(name string) string { return EndedPrefix + escape(name) }

// HistoryKey is the key of a detached program's history.
func HistoryKey(name string) string { return HistoriesPrefix + escape(name) }

// WorkerGrants is the prefix of a worker's pages of grants.
func WorkerGrants(worker string) string { return GrantsPrefix + escape(worker) + "/" }

// WorkerAcks is the prefix of a worker's pages of acknowledgements.
func WorkerAcks(worker string) string { return AcksPrefix + escape(worker) + "/" }

// JobKey is the key of what was asked for.
func JobKey(id string) string { return JobsPrefix + escape(id) }

// JobStateKey is the key of where a job is.
func JobStateKey(id string) string { return JobStatesPrefix + escape(id) }

// JobScheduleKey is the key of when a job is to run, again and again.
func JobScheduleKey(name string) string { return JobSchedulesPrefix + escape(name) }

// JobScheduleStateKey is the key of what has become of a schedule's times.
func JobScheduleStateKey(name string) string { return JobScheduleStatesPrefix + escape(name) }

// FenceKey is the key of a scheduler's fence, below one of the prefixes of fences.
func FenceKey(prefix, scheduler string) string { return prefix + escape(scheduler) }

// JobWorkerKey is the key of a worker that takes jobs.
func JobWorkerKey(worker string) string { return JobWorkersPrefix + escape(worker) }

// OldWorkerKey is the key of a worker of the protocol jobscheduler.
func OldWorkerKey(id string) string { return OldWorkersPrefix + escape(id) }

// SignInKey is the key of a session of somebody at a browser.
func SignInKey(hash string) string { return SignInsPrefix + escape(hash) }

// SignInCodeKey is the key of a code to sign in with.
func SignInCodeKey(hash string) string { return SignInCodes + escape(hash) }

// EventKey is the key of a page of events. The page's name is its own for ever.
func EventKey(shelf, page string) string { return EventsPrefix + escape(shelf) + "/" + escape(page) }

// IsEvent reports whether a key is of events.
func IsEvent(key string) bool { return strings.HasPrefix(key, EventsPrefix) }

// PoolKey is the key of what a pool is to be.
func PoolKey(name string) string { return PoolsPrefix + escape(name) }

// PoolStateKey is the key of what the leader remembers of a pool.
func PoolStateKey(name string) string { return PoolStatesPrefix + escape(name) }

// PoolWorkerKey is the key of a worker that an engine was asked to start.
func PoolWorkerKey(worker string) string { return PoolWorkersPrefix + escape(worker) }

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
