package gateway

import (
	"bytes"
	"strconv"

	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// disbelieve drops what the call says of others than whoever brings it, unless that is
// a trusted proxy. What the operator sets comes later, and stays.
func (x *exchange) disbelieve() {
	if x.call.st.trusts(x.peer.Remote) {
		return
	}
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.SpeaksForOthers() {
			f.Drop = true
		}
	}
}

// appendRequest appends the request's head as the worker gets it.
func (x *exchange) appendRequest(b []byte, t *target, w *upstream.Worker, mode bodyMode) []byte {
	req := &x.req
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, w.Base...)
	b = append(b, t.path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if len(req.Host) > 0 {
		b = append(b, req.Host...)
	} else {
		b = append(b, w.Host...)
	}
	b = append(b, "\r\n"...)
	traced, told := false, false
	var xff, outer []byte
	for i := range req.Fields {
		f := &req.Fields[i]
		if f.Drop {
			continue
		}
		switch f.Kind {
		case wire.Host, wire.ContentLength, wire.Expect:
			continue
		case wire.XForwardedFor:
			if xff != nil {
				xff = append(append(xff[:len(xff):len(xff)], ", "...), f.Value...)
			} else {
				xff = f.Value
			}
			continue
		case wire.XForwardedOther:
			told = true
		case wire.ForwardedPrefix:
			outer = f.Value
			continue
		case wire.Generation:
			if len(t.task) > 0 {
				continue
			}
		case wire.TraceParent:
			traced = true
		}
		b = appendField(b, f)
	}
	b = x.appendVia(b)
	b = append(b, "X-Forwarded-For: "...)
	if len(xff) > 0 {
		b = append(b, xff...)
		b = append(b, ", "...)
	}
	b = append(b, x.peer.Node...)
	if !told {
		b = append(b, "\r\nX-Forwarded-Host: "...)
		b = append(b, req.Host...)
		if x.peer.TLS {
			b = append(b, "\r\nX-Forwarded-Proto: https"...)
		} else {
			b = append(b, "\r\nX-Forwarded-Proto: http"...)
		}
	}
	if len(t.prefix) > 0 || len(outer) > 0 { // what was taken off the path, here and before
		b = append(b, "\r\nX-Forwarded-Prefix: "...)
		b = append(append(b, bytes.TrimRight(outer, "/")...), t.prefix...)
	}
	b = append(b, "\r\nForwarded: for="...)
	if x.peer.Remote.Is6() {
		b = append(b, `"[`...)
		b = append(b, x.peer.Node...)
		b = append(b, `]"`...)
	} else {
		b = append(b, x.peer.Node...)
	}
	if x.peer.TLS {
		b = append(b, `;proto=https;host="`...)
	} else {
		b = append(b, `;proto=http;host="`...)
	}
	b = append(b, req.Host...)
	b = append(b, "\"\r\n"...)
	if len(t.task) > 0 {
		b = append(b, "Rota-Generation: "...)
		b = strconv.AppendUint(b, x.call.generation, 10)
		b = append(b, "\r\n"...)
	}
	if x.rec.Logged && !has(req.Fields, wire.RequestID) {
		b = append(b, "X-Request-Id: "...)
		b = append(b, x.rec.ID[:]...)
		b = append(b, "\r\n"...)
	}
	b = x.appendTrace(b, traced)
	if req.UpgradeTo != nil {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, req.UpgradeTo...)
		b = append(b, "\r\n"...)
	}
	switch {
	case req.Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case req.Length >= 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, req.Length, 10)
		b = append(b, "\r\n"...)
	}
	if mode == bodyFlow && req.Continue {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	return append(b, "\r\n"...)
}

func has(fields []wire.Field, k wire.Kind) bool {
	for i := range fields {
		if fields[i].Kind == k {
			return true
		}
	}
	return false
}

func appendField(b []byte, f *wire.Field) []byte {
	b = append(b, f.Name...)
	b = append(b, ": "...)
	b = append(b, f.Value...)
	return append(b, "\r\n"...)
}

// appendStatus appends a status line.
func appendStatus(b []byte, status int, reason []byte) []byte {
	if status == 200 && string(reason) == "OK" {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, reason...)
	return append(b, "\r\n"...)
}

// appendResponse appends the response's head as the client gets it, up to and
// without the framing and the empty line.
func (x *exchange) appendResponse(b []byte) []byte {
	resp := &x.resp
	b = appendStatus(b, resp.Status, resp.Reason)
	dated := resp.Status < 200
	for i := range resp.Fields {
		f := &resp.Fields[i]
		dated = dated || f.Kind == wire.Date
		if f.Kind == wire.Upgrade && (resp.Status == 426 || resp.Status == 101) {
			b = appendField(b, f)
			continue
		}
		if f.Drop || f.Kind == wire.ContentLength {
			continue
		}
		b = appendField(b, f)
	}
	if !dated {
		b = append(b, "Date: "...)
		b = append(b, x.g.date()...)
		b = append(b, "\r\n"...)
	}
	return b
}

// appendLength appends the length of the answer's body.
func (x *exchange) appendLength(b []byte) []byte { return strconv.AppendInt(b, x.resp.Length, 10) }
