package etcd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// maxPeerAnswer is the most bytes of an answer of another member that are read.
const maxPeerAnswer = 1 << 20

// answerOfMember is what another member says of its cluster.
type answerOfMember struct {
	cluster types.ID
	members []*membership.Member
	err     error // it did not answer
}

// has reports whether its cluster has a member.
func (a answerOfMember) has(id types.ID) bool {
	return slices.ContainsFunc(a.members, func(m *membership.Member) bool { return m.ID == id })
}

// ask asks the member at an address what it is part of.
func (q *quorum) ask(ctx context.Context, address string) (a answerOfMember) {
	header, body, err := q.call(ctx, http.MethodGet, address, "/members", nil)
	if err != nil {
		return answerOfMember{err: err}
	}
	if a.cluster, err = types.IDFromString(header.Get("X-Etcd-Cluster-Id")); err == nil {
		err = json.Unmarshal(body, &a.members)
	}
	if err != nil {
		return answerOfMember{err: fmt.Errorf("not a member of etcd: %w", err)}
	}
	return a
}

// call sends a request to another member's peer port, by a connection of its own, and
// returns what it answered.
func (q *quorum) call(ctx context.Context, method, address, path string, body io.Reader) (http.Header, []byte, error) {
	t := q.dial()
	defer t.CloseIdleConnections()
	return q.callBy(ctx, t, method, address, path, body)
}

// callBy is call by what dial made, which may keep its connections.
func (q *quorum) callBy(ctx context.Context, t *http.Transport, method, address, path string, body io.Reader) (http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	u := q.url(address)
	u.Path = path
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, nil, err
	}
	resp, err := t.RoundTrip(req) // no redirects
	if err != nil {
		var where interface{ Unwrap() error }
		if errors.As(err, &where) { // without the address, which the caller says
			err = where.Unwrap()
		}
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPeerAnswer))
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, &peerError{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return resp.Header, text, nil
}

// peerError is another member's refusal.
type peerError struct {
	status int
	text   string
}

func (e *peerError) Error() string { return e.text }

// dial is how this member connects to others: it takes schedulers only.
func (q *quorum) dial() *http.Transport {
	t := &http.Transport{DisableKeepAlives: true}
	if q.src != nil {
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: q.src.SchedulerClient()}).DialContext(ctx, network, addr)
		}
	}
	return t
}
