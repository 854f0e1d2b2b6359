package auth

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// targetFields are the fields of a request that say what it is about, in the
// order in which the audit shows them. No other field is ever shown: payloads,
// environments and inputs may hold secrets.
var targetFields = []protoreflect.Name{"namespace", "id", "ids", "name", "worker", "worker_id", "job_id", "function", "program", "role"}

// listed is how many of a list's names are shown.
const listed = 8

// target says in few words what a request is about.
func target(req any) string {
	m, ok := req.(proto.Message)
	if !ok {
		return ""
	}
	var parts []string
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for _, name := range targetFields {
		fd := fields.ByName(name)
		if fd == nil || !r.Has(fd) || fd.Kind() != protoreflect.StringKind {
			continue
		}
		if !fd.IsList() {
			parts = append(parts, fmt.Sprintf("%s=%s", name, clip(r.Get(fd).String())))
			continue
		}
		list := r.Get(fd).List()
		for i := range min(list.Len(), listed) {
			parts = append(parts, fmt.Sprintf("%s=%s", name, clip(list.Get(i).String())))
		}
		if n := list.Len() - listed; n > 0 {
			parts = append(parts, fmt.Sprintf("and %d more", n))
		}
	}
	// Declarations are lists of messages with ids.
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Kind() != protoreflect.MessageKind || !fd.IsList() || fd.IsMap() {
			continue
		}
		id := fd.Message().Fields().ByName("id")
		if id == nil || id.Kind() != protoreflect.StringKind || id.IsList() {
			continue
		}
		list := r.Get(fd).List()
		for i := range min(list.Len(), listed) {
			parts = append(parts, "id="+clip(list.Get(i).Message().Get(id).String()))
		}
		if n := list.Len() - listed; n > 0 {
			parts = append(parts, fmt.Sprintf("and %d more", n))
		}
	}
	return strings.Join(parts, " ")
}

// whence is where a call came from. The HTTP side calls from within the process
// and says last whom it calls for; what others say of that counts for nothing.
func whence(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	if md, _ := metadata.FromIncomingContext(ctx); p.Addr.Network() == "bufconn" {
		if said := md.Get("x-forwarded-for"); len(said) > 0 {
			list := strings.Split(said[len(said)-1], ",")
			return strings.TrimSpace(list[len(list)-1])
		}
	}
	return p.Addr.String()
}

// audit writes one line: who did what to which, and what came of it.
func audit(ctx context.Context, log *slog.Logger, who Identity, method string, req any, err error) {
	attrs := []slog.Attr{
		slog.String("who", who.Name), slog.String("kind", string(who.Kind)), slog.String("credential", who.ID),
		slog.String("method", method), slog.String("target", target(req)),
		slog.String("outcome", status.Code(err).String()), slog.String("from", whence(ctx)),
	}
	level := slog.LevelInfo
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.ResourceExhausted:
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("reason", status.Convert(err).Message()))
	}
	log.LogAttrs(ctx, level, "audit", attrs...)
}
