package gateway

import (
	"bytes"
	"strconv"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// This file does what RFC 9110 asks of an intermediary.

// returned says that the call has been here before: a worker is this gateway, or
// sends calls back to it. Each gateway calls itself by a name of its own in Via.
func (x *exchange) returned() bool {
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.Kind == wire.Via && bytes.Contains(f.Value, x.g.via) {
			return true
		}
	}
	return false
}

// appendVia appends the Via line of this hop; those before it have been passed on.
func (x *exchange) appendVia(b []byte) []byte {
	b = append(b, "Via: "...)
	switch _, muxed := x.client.(*stream); {
	case muxed:
		b = append(b, '2')
	case x.req.Minor == 0:
		b = append(b, "1.0"...)
	default:
		b = append(b, "1.1"...)
	}
	b = append(b, ' ')
	b = append(b, x.g.via...)
	return append(b, "\r\n"...)
}

// lastHop says whether Max-Forwards has the request end here. It counts OPTIONS only:
// TRACE is not passed on at all, and other methods do not heed it (RFC 9110, 7.6.2).
func (x *exchange) lastHop() bool {
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if f.Kind != wire.MaxForwards {
			continue
		}
		n, err := strconv.ParseUint(string(f.Value), 10, 31)
		switch {
		case err != nil:
			continue
		case n == 0:
			return true
		}
		f.Value = strconv.AppendUint(nil, n-1, 10)
	}
	return false
}

// describe answers OPTIONS for the gateway itself.
func (x *exchange) describe() bool {
	rec := &recorder{status: 204}
	rec.Header().Set("Allow", allowed)
	return x.reply(&refusal{end: outcome.EndedWell, status: rec.status, page: rec})
}

// allowed are the methods that are passed on, among others that nobody knows.
const allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// bareAuthority says whether an absolute target names a host and no path.
func bareAuthority(uri []byte) bool {
	_, rest, found := bytes.Cut(uri, []byte("://"))
	return found && len(rest) > 0 && !bytes.ContainsAny(rest, "/?@") && wire.IsHost(rest)
}

// date is the present time as Date has it. It is made anew at each tick.
func (g *Gateway) date() []byte { return *g.dated.Load() }

func (g *Gateway) tellDate() {
	now := time.Now().UTC()
	if was := g.dated.Load(); was != nil && now.Unix() == g.datedAt {
		return
	}
	g.datedAt = now.Unix()
	b := now.AppendFormat(nil, "Mon, 02 Jan 2006 15:04:05 GMT")
	g.dated.Store(&b)
}
