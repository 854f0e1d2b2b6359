package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
)

// joinPath is where a member is asked on its peer port to let another one in.
const joinPath = "/rota/join"

// Whoever joins asks, and catches up, this often.
const (
	joinEvery    = 500 * time.Millisecond
	promoteEvery = 100 * time.Millisecond
)

// joinAnswer are the members of the cluster that somebody was let into: the addresses
// of their peer ports by name.
type joinAnswer struct {
	Members map[string]string `json:"members"`
}

// handler is what a member that has started answers on its peer port.
func (q *quorum) handler(node *embed.Etcd) http.Handler {
	raft := etcdhttp.NewPeerHandler(node.GetLogger(), node.Server)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != joinPath && r.URL.Path != renewPath:
			raft.ServeHTTP(w, r)
			return
		case r.Method != http.MethodPost:
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		case r.URL.Path == renewPath:
			answerRenewal(node.Server, w, r)
			return
		}
		var who owner
		if err := json.NewDecoder(io.LimitReader(r.Body, 4<<10)).Decode(&who); err != nil {
			http.Error(w, "no member in it: "+err.Error(), http.StatusBadRequest)
			return
		}
		status, err := q.letIn(r.Context(), node.Server, who)
		if err != nil {
			http.Error(w, err.Error(), status)
			return
		}
		answerJSON(w, joinAnswer{q.current(node.Server)})
	})
}

// answerJSON answers another member.
func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) //nolint:errchkjson // whoever is gone asks again, and what is answered can be encoded
}

// current are the members as this one knows them.
func (q *quorum) current(s *etcdserver.EtcdServer) map[string]string {
	out := map[string]string{}
	for _, m := range s.Cluster().Members() {
		out[m.Name] = addressOf(m)
	}
	return out
}

func addressOf(m *membership.Member) string {
	if len(m.PeerURLs) == 0 {
		return ""
	}
	_, address, _ := strings.Cut(m.PeerURLs[0], "://")
	return address
}

// letIn makes somebody a member that does not vote until it has caught up. An error has
// the status of an answer: whoever gets 503 may ask again.
func (q *quorum) letIn(ctx context.Context, s *etcdserver.EtcdServer, who owner) (status int, err error) {
	if err := CheckMembers(map[string]string{who.Name: who.Address}); err != nil {
		return http.StatusBadRequest, err
	}
	for _, m := range s.Cluster().Members() {
		address := addressOf(m)
		switch {
		case m.Name == who.Name && address == who.Address && m.IsLearner && len(m.ClientURLs) == 0:
			return 0, nil // it was let in, and has not got as far as to say that it is there
		case m.Name == who.Name:
			return http.StatusConflict, fmt.Errorf("%s is already a member, at %s: if its data is lost, or it is another machine, remove it first (rota member remove %s)", m.Name, address, m.Name)
		case address == who.Address:
			return http.StatusConflict, fmt.Errorf("%s is the address of %s", address, m.Name)
		}
	}
	u := q.url(who.Address)
	now := time.Now()
	_, err = s.AddMember(ctx, *membership.NewMemberAsLearner(who.Name, []url.URL{u}, quorumToken, &now))
	switch {
	case err == nil:
		q.log.Info("a scheduler joins the cluster", "member", who.Name, "peer", who.Address)
		return 0, nil
	case errors.Is(err, membership.ErrTooManyLearners):
		return http.StatusServiceUnavailable, errors.New("another member is joining: one at a time")
	case errors.Is(err, etcderrors.ErrUnhealthy), errors.Is(err, etcderrors.ErrNotEnoughStartedMembers):
		return http.StatusServiceUnavailable, errors.New("not all of its members have been connected for five seconds")
	}
	return http.StatusServiceUnavailable, err
}

// enter has this member, which has never started, find its place: it asks the others to
// let it in, if it is to join. Else it waits for so many that are as new, or expect it,
// that they are a quorum: one that has lost its data must not begin anew beside others
// that count on what it had promised. It reports whether there is a cluster to join.
func (q *quorum) enter(ctx context.Context) (exists bool, err error) {
	if q.cfg.Join {
		return true, q.join(ctx)
	}
	q.port.isNew.Store(true)
	note := time.Now().Add(firstNote)
	for {
		expected, silent := 1, []string(nil)
		for name, a := range q.askAll(ctx, q.cfg.Members) {
			at := name + "=" + q.cfg.Members[name]
			ok, err := q.expects(at, a)
			switch {
			case err != nil:
				return false, err
			case ok:
				expected++
			default:
				silent = append(silent, at+": "+a.err.Error())
			}
		}
		if expected > len(q.cfg.Members)/2 {
			return false, nil
		}
		if time.Now().After(note) {
			slices.Sort(silent)
			q.log.Warn("waiting for more members to start the cluster: more than half of them are needed", "member", q.cfg.Name,
				"members", len(q.cfg.Members), "silent", strings.Join(silent, "; "))
			note = time.Now().Add(laterNote)
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(promoteEvery):
		}
	}
}

// expects reports whether another member, asked by its name and address, is as new as
// this one, or has it among its members as one that has not been there yet. An error
// says why this one is not expected.
func (q *quorum) expects(at string, a answerOfMember) (bool, error) {
	if a.err != nil {
		var refusal *peerError
		return errors.As(a.err, &refusal) && refusal.text == newText, nil
	}
	own := q.url(q.cfg.Members[q.cfg.Name])
	i := slices.IndexFunc(a.members, func(m *membership.Member) bool { return slices.Contains(m.PeerURLs, own.String()) })
	switch {
	case i < 0:
		return false, fmt.Errorf("the cluster of %s has no member %s at %s: it can join (--join)", at, q.cfg.Name, own.Host)
	case len(a.members[i].ClientURLs) > 0:
		return false, fmt.Errorf("%s was a member before, but its data directory is empty: remove it (rota member remove %s), and let it join (--join)", q.cfg.Name, q.cfg.Name)
	}
	return true, nil
}

// join asks the other members until one lets this one in.
func (q *quorum) join(ctx context.Context) error {
	body, err := json.Marshal(owner{q.cfg.Name, q.cfg.Members[q.cfg.Name]})
	if err != nil {
		return err
	}
	note := time.Now().Add(firstNote)
	for {
		var silent []string
		for _, name := range slices.Sorted(maps.Keys(q.cfg.Members)) {
			if name == q.cfg.Name {
				continue
			}
			_, text, err := q.call(ctx, http.MethodPost, q.cfg.Members[name], joinPath, bytes.NewReader(body))
			var refusal *peerError
			var in joinAnswer
			switch {
			case err == nil:
				err = json.Unmarshal(text, &in)
			case errors.As(err, &refusal) && refusal.status != http.StatusServiceUnavailable:
				return fmt.Errorf("%s does not let %s in: %w", name, q.cfg.Name, err)
			}
			if err == nil && CheckMembers(in.Members) == nil && in.Members[q.cfg.Name] == q.cfg.Members[q.cfg.Name] {
				q.cfg.Members = in.Members
				return nil
			}
			silent = append(silent, fmt.Sprintf("%s=%s: %v", name, q.cfg.Members[name], err))
		}
		if time.Now().After(note) {
			q.log.Warn("not in the cluster yet; trying again", "member", q.cfg.Name, "answers", strings.Join(silent, "; "))
			note = time.Now().Add(laterNote)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; %s", ctx.Err(), strings.Join(silent, "; "))
		case <-time.After(joinEvery):
		}
	}
}

// promote waits until a member that has joined has caught up and votes.
func (q *quorum) promote(ctx context.Context, node *embed.Etcd) error {
	for node.Server.IsLearner() {
		once, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := node.Server.PromoteMember(once, uint64(node.Server.MemberID()))
		cancel()
		if err == nil {
			continue // until this member knows, too
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-node.Server.StopNotify():
			return errors.New("it stopped")
		case <-time.After(promoteEvery):
		}
	}
	return nil
}
