package rest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/rota-project/rota/internal/api/convert"
)

// The gateway ignores query parameters that it does not know, and the parser
// that could be put in its place is one for the whole process. So the
// parameters of a request travel in its context, and the connection refuses a
// call whose message has no such field.

// queryKey is where a request's context has its query.
type queryKey struct{}

// withQuery returns r with its query in its context. It answers and reports
// false if the query cannot be right.
func withQuery(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	if r.URL.RawQuery == "" {
		return r, true
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		writeError(w, http.StatusBadRequest, "invalid_argument", "the query is not well formed: "+err.Error(), "")
		return r, false
	case r.Method != http.MethodGet && len(values) > 0:
		name := slices.Min(slices.Collect(maps.Keys(values)))
		writeError(w, http.StatusBadRequest, "invalid_argument", fmt.Sprintf("unknown query parameter %q: this call takes a body", name), name)
		return r, false
	}
	return r.WithContext(context.WithValue(r.Context(), queryKey{}, values)), true
}

// strictConn is a connection that refuses what withQuery took down and the
// call does not take.
type strictConn struct{ grpc.ClientConnInterface }

func (c strictConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if err := checkQuery(ctx, method); err != nil {
		return err
	}
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

func (c strictConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := checkQuery(ctx, method); err != nil {
		return nil, err
	}
	return c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// checkQuery names the first parameter that the request of the method
// ("/rota.v1.Tasks/ListTasks") has no plain field for.
func checkQuery(ctx context.Context, method string) error {
	values, _ := ctx.Value(queryKey{}).(url.Values)
	if len(values) == 0 {
		return nil
	}
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return fmt.Errorf("%s is no method", method)
	}
	for _, param := range slices.Sorted(maps.Keys(values)) {
		if fd := m.Input().Fields().ByTextName(param); fd == nil || fd.Message() != nil {
			return convert.FieldStatus(param, fmt.Sprintf("unknown query parameter %q", param))
		}
	}
	return nil
}
