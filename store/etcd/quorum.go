package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	etcdtls "go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth/pki"
)

// Quorum says which members keep a store together. Each is a node of its own, and a
// write is done when more than half of them have it.
type Quorum struct {
	// Name is this member's: one of Members.
	Name string
	// Members are the addresses of the members' peer ports, host:port, by name: three or
	// five. A member that has been one before goes by what its data directory knows.
	Members map[string]string
	// Listener is this member's peer port. It is closed by Stop, or by an Embed that
	// fails.
	Listener net.Listener
	// TLS secures what members say to each other: each shows a scheduler's certificate
	// and takes nothing else, and it must be for the host that the other one dials. The
	// authority, the certificate and its key are all needed. Zero is no TLS: whoever
	// reaches the port can then read and write everything.
	TLS pki.Files
	// Join has a member that is new ask the others to let it in; it does not vote until
	// it has caught up. Members then has any of them, and this one. It changes nothing
	// for a member whose data directory is not empty.
	Join bool
	// Logger is told what a person has to know: whom this member waits for, and why.
	// Nil means nobody.
	Logger *slog.Logger
}

// Members are this far apart: heartbeats come every tick, and an election begins when
// none has come for this long. Both are etcd's own defaults. A member that was away
// for a moment catches up by the log, as far back as it is kept.
const (
	quorumTickMs          = 100
	quorumElectionMs      = 1000
	quorumSnapshotCount   = 1000
	quorumSnapshotCatchUp = 2000
	// askTimeout bounds a question to another member.
	askTimeout = 5 * time.Second
	// A member that waits says so after the first time, and again after each later one.
	firstNote, laterNote = 5 * time.Second, 30 * time.Second
)

// quorumToken is part of what the first members' names for themselves are made of.
const quorumToken = "rota"

// memberName is what a member may be called: it is part of a list of etcd's.
var memberName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// CheckMembers says what is wrong with a list of members.
func CheckMembers(members map[string]string) error {
	at := map[string]string{}
	for _, n := range slices.Sorted(maps.Keys(members)) {
		host, port, err := net.SplitHostPort(members[n])
		number, portErr := strconv.ParseUint(port, 10, 16)
		switch {
		case !memberName.MatchString(n):
			return &rota.FieldError{Field: "cluster", Value: n, Want: "names of letters, digits, points, dashes and underscores"}
		case err != nil || portErr != nil || number == 0 || !memberHost.MatchString(host):
			return &rota.FieldError{Field: "cluster", Value: n + "=" + members[n], Want: "NAME=HOST:PORT"}
		case at[members[n]] != "":
			return &rota.FieldError{Field: "cluster", Value: members[n], Want: fmt.Sprintf("a different address for each member: %s and %s have the same", at[members[n]], n)}
		}
		at[members[n]] = n
	}
	return nil
}

// CheckMember says whether a list of members has one of this name.
func CheckMember(name string, members map[string]string) error {
	if members[name] != "" {
		return nil
	}
	return &rota.FieldError{Field: "name", Value: name, Want: "this scheduler's name in cluster: " + strings.Join(slices.Sorted(maps.Keys(members)), " or ")}
}

// memberHost is a name or an address.
var memberHost = regexp.MustCompile(`^[A-Za-z0-9:._-]+$`)

// CheckNumber says whether so many members are a number that begins a cluster.
func CheckNumber(n int) error {
	if n == 3 || n == 5 {
		return nil
	}
	return &rota.FieldError{Field: "cluster", Value: n, Want: "three or five members: an even number tolerates no more losses than one less, and a single member needs no cluster"}
}

// quorum is a node's part in the cluster.
type quorum struct {
	cfg  Quorum
	src  *pki.Source // nil without TLS
	port *peerPort
	log  *slog.Logger
}

// newQuorum opens the peer port. After an error the listener is closed.
func newQuorum(cfg Quorum) (*quorum, error) {
	q := &quorum{cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))}
	err := cmp.Or(CheckMembers(cfg.Members), CheckMember(cfg.Name, cfg.Members))
	if err == nil && cfg.TLS != (pki.Files{}) {
		if q.src, err = pki.Load(cfg.TLS); err == nil && cfg.TLS.Cert == "" {
			err = &rota.FieldError{Field: "tls", Value: "", Want: "a certificate and its key"}
		}
	}
	if err == nil {
		q.port, err = newPeerPort(cfg.Listener, q.src)
	}
	if err != nil {
		_ = cfg.Listener.Close() // nobody was let in
		return nil, err
	}
	return q, nil
}

// stop closes the peer port, if there is one.
func (q *quorum) stop() error {
	if q == nil {
		return nil
	}
	return q.port.stop()
}

// url is where a member of this address is.
func (q *quorum) url(address string) url.URL {
	u := url.URL{Scheme: "http", Host: address}
	if q.src != nil {
		u.Scheme = "https"
	}
	return u
}

// configure makes a node of several of one that is alone. exists says that the others
// are a cluster already.
func (q *quorum) configure(ec *embed.Config, exists bool) {
	if exists {
		ec.ClusterState = embed.ClusterStateFlagExisting
	}
	ec.Name = q.cfg.Name
	ec.AdvertisePeerUrls = []url.URL{q.url(q.cfg.Members[q.cfg.Name])}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(q.cfg.Members)) {
		u := q.url(q.cfg.Members[name])
		all = append(all, name+"="+u.String())
	}
	ec.InitialCluster, ec.InitialClusterToken = strings.Join(all, ","), quorumToken
	ec.TickMs, ec.ElectionMs = quorumTickMs, quorumElectionMs
	ec.SnapshotCount, ec.SnapshotCatchUpEntries = quorumSnapshotCount, quorumSnapshotCatchUp
	if q.src != nil {
		ec.PeerTLSInfo = etcdtls.TLSInfo{ // of what this member dials; its port is its own
			CertFile: q.cfg.TLS.Cert, KeyFile: q.cfg.TLS.Key, TrustedCAFile: q.cfg.TLS.CA,
			MinVersion: tls.VersionTLS13, AllowedHostnames: []string{pki.SchedulerHost},
		}
	}
}

// await waits until the member takes part, and says whom it waits for. The time is the
// other members': it ends with ctx only, or when they say that this one is none of
// theirs.
func (q *quorum) await(ctx context.Context, node *embed.Etcd, f *failure) error {
	note := time.NewTimer(firstNote)
	defer note.Stop()
	for {
		select {
		case <-node.Server.ReadyNotify():
			return q.promote(ctx, node)
		case <-node.Server.StopNotify():
			return cmp.Or(q.refused(ctx, node), errors.New("it stopped"))
		case <-f.ch:
			return f.get()
		case <-ctx.Done():
			return ctx.Err()
		case <-note.C:
			if err := q.refused(ctx, node); err != nil {
				return err
			}
			note.Reset(laterNote)
		}
	}
}

// refused asks the other members, says who answers, and returns an error if they are
// of another cluster or have no such member. Where none answers of those that the data
// directory knows, those that the configuration names are asked.
func (q *quorum) refused(ctx context.Context, node *embed.Etcd) error {
	members := q.current(node.Server)
	answers, silent, err := q.judge(ctx, node, members)
	if err != nil {
		return err
	}
	if len(answers) == 0 {
		if _, _, err := q.judge(ctx, node, q.cfg.Members); err != nil {
			return err
		}
	}
	q.log.Warn("waiting for more members: a quorum is more than half of them", "member", q.cfg.Name, "members", len(members),
		"answer", strings.Join(answers, ", "), "silent", strings.Join(silent, "; "))
	return nil
}

// judge asks members what they are part of.
func (q *quorum) judge(ctx context.Context, node *embed.Etcd, members map[string]string) (answers, silent []string, err error) {
	for name, a := range q.askAll(ctx, members) {
		at := name + "=" + members[name]
		if a.err != nil {
			silent = append(silent, at+": "+a.err.Error())
			continue
		}
		answers = append(answers, name)
		if own := node.Server.Cluster().ID(); a.cluster != own {
			return nil, nil, fmt.Errorf("the data directory belongs to another cluster: %s is of cluster %s, this member of %s", at, a.cluster, own)
		}
		if !a.has(node.Server.MemberID()) {
			return nil, nil, errRemoved
		}
	}
	slices.Sort(answers)
	slices.Sort(silent)
	return answers, silent, nil
}

// errRemoved says that the cluster has no such member any more.
var errRemoved = errors.New("this member was removed from the cluster: empty its data directory before it joins again")

// askAll asks all of members but this one at once what they are part of.
func (q *quorum) askAll(ctx context.Context, members map[string]string) map[string]answerOfMember {
	var mu sync.Mutex
	all := map[string]answerOfMember{}
	var asked sync.WaitGroup
	for name, address := range members {
		if name == q.cfg.Name {
			continue
		}
		asked.Go(func() {
			a := q.ask(ctx, address)
			mu.Lock()
			defer mu.Unlock()
			all[name] = a
		})
	}
	asked.Wait()
	return all
}
