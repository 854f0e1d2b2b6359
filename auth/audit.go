package auth

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rota-project/rota/internal/text"
)

// targetFields are the fields of a message that say what it is about, in the order
// in which the audit shows them, and what it calls them there. No other field is
// ever shown: payloads, environments and inputs may hold secrets, and so may the
// words after a command.
var targetFields = []struct {
	field protoreflect.Name
	as    string
}{
	{"namespace", ""},
	{"id", ""},
	{"ids", ""},
	{"name", ""},
	{"names", ""},
	{"pools", ""},
	{"schedules", ""},
	{"engine", ""},
	{"worker", ""},
	{"worker_id", ""},
	{"workerID", "worker"},
	{"job_id", ""},
	{"jobID", "job_id"},
	{"function", ""},
	{"program", ""},
	{"role", ""},
	{"kind", ""},
	{"pinned", "worker"},
	{"argv", "command"},
	{"address", ""},
	{"group", ""},
	{"state", ""},
	{"id_prefix", ""},
	{"reason", ""},
	{"service", ""},
	{"source", ""},
	{"delete", "remove"},
	{"incarnation", ""},
	// Messages within the message, which are described in the same way.
	{"job", ""},
	{"tasks", ""},
	{"set", ""},
	{"hello", ""},
	{"change", ""},
	{"end", ""},
	{"info", ""},
	{"leave", ""},
}

// listed is how many of a list's entries are shown.
const listed = 8

// Target describes in a few words what a request is about, for the audit log.
func Target(req any) string {
	m, ok := req.(proto.Message)
	if !ok {
		return ""
	}
	return strings.Join(describe(m.ProtoReflect(), nil), " ")
}

// describe appends what m is about to parts.
func describe(m protoreflect.Message, parts []string) []string {
	fields := m.Descriptor().Fields()
	for _, f := range targetFields {
		fd := fields.ByName(f.field)
		if fd == nil || fd.IsMap() || !m.Has(fd) {
			continue
		}
		as := cmp.Or(f.as, string(f.field))
		if as == "name" {
			as = whose(m.Descriptor().Name())
		}
		show := func(v protoreflect.Value) {
			switch fd.Kind() {
			case protoreflect.StringKind:
				parts = append(parts, as+"="+quote(v.String()))
			case protoreflect.MessageKind:
				parts = describe(v.Message(), parts)
			}
		}
		if !fd.IsList() {
			show(m.Get(fd))
			continue
		}
		list := m.Get(fd).List()
		n := min(list.Len(), listed)
		if f.field == "argv" {
			n = 1
		}
		for i := range n {
			show(list.Get(i))
		}
		if more := list.Len() - n; more > 0 && f.field != "argv" {
			parts = append(parts, fmt.Sprintf("and %d more", more))
		}
	}
	return parts
}

// whose says what the field "name" of a message names.
func whose(message protoreflect.Name) string {
	switch {
	case strings.Contains(string(message), "Program"):
		return "program"
	case strings.Contains(string(message), "Pool"):
		return "pool"
	case strings.Contains(string(message), "JobSchedule"):
		return "schedule"
	case strings.HasPrefix(string(message), "Worker"), message == "GetWorkerRequest", message == "ReportExitRequest", message == "JobHello":
		return "worker"
	}
	return "name"
}

// quote makes a text one word of the audit's line, and short.
func quote(s string) string {
	s = text.Clip(s, text.Short)
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// whence is where a call came from. The HTTP side calls from within the process
// and says last whom it calls for; what others say of that counts for nothing.
func whence(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	if within(ctx) {
		if said := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for"); len(said) > 0 {
			list := strings.Split(said[len(said)-1], ",")
			return strings.TrimSpace(list[len(list)-1])
		}
	}
	return p.Addr.String()
}

type auditorKey struct{}

// auditor is what Audit writes with: a call that a Guard has let in.
type auditor struct {
	trail  *trail
	who    Identity
	method string
	writes bool
}

// Audit writes a line to the audit log for the call whose context is ctx, if its method
// changes something. Use it for each message of a stream that changes something, and for an
// HTTP route without a gRPC method, where only the handler knows the target. Without a
// Guard it does nothing.
func Audit(ctx context.Context, target string, err error) {
	if a, ok := ctx.Value(auditorKey{}).(auditor); ok && a.writes {
		a.trail.write(ctx, a.who, a.method, target, err)
	}
}

// within reports whether a call comes from the HTTP side, within the process.
func within(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	return ok && p.Addr != nil && p.Addr.Network() == "bufconn"
}

// line is what a line of the audit says of a call.
func line(ctx context.Context, who Identity, method, target string, err error) []slog.Attr {
	return []slog.Attr{
		slog.String("who", who.Name), slog.String("kind", string(who.Kind)), slog.String("credential", who.ID),
		slog.String("method", method), slog.String("target", target),
		slog.String("outcome", status.Code(err).String()), slog.String("from", whence(ctx)),
	}
}

// refusal is why a call was refused; empty if it was not.
func refusal(err error) string {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.ResourceExhausted:
		return status.Convert(err).Message()
	}
	return ""
}
