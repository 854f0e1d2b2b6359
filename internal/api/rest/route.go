package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/unread"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// route is what a call over HTTP is: a method, which is in the table of who may
// call what.
type route struct {
	method string // "/rota.v1.Tasks/ApplyTasks"
	input  protoreflect.MessageDescriptor
	body   int // most bytes of its body; 0 if it takes none
}

// routes are the routes of the calls by HTTP method and path, where {} stands for
// what the path names. They come from the description of the API, which is made
// from the same rules as the code that answers.
type routes map[string]route

var (
	named   = regexp.MustCompile(`\{[^}]*\}`)
	another = regexp.MustCompile(`[0-9]+$`) // of several paths to one method
)

func routeKey(method, pattern string) string {
	return method + " " + named.ReplaceAllString(pattern, "{}")
}

func newRoutes() (routes, error) {
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string          `json:"operationId"`
			RequestBody json.RawMessage `json:"requestBody"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(rotav1.OpenAPI, &doc); err != nil {
		return nil, fmt.Errorf("openapi.json: %w", err)
	}
	out := routes{}
	for path, ops := range doc.Paths {
		for verb, op := range ops {
			service, method, ok := strings.Cut(another.ReplaceAllString(op.OperationID, ""), "_")
			if !ok {
				continue // it is no call
			}
			d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("rota.v1." + service + "." + method))
			if err != nil {
				return nil, fmt.Errorf("openapi.json: %s: %w", op.OperationID, err)
			}
			m, ok := d.(protoreflect.MethodDescriptor)
			if !ok {
				return nil, fmt.Errorf("openapi.json: %s is no method", op.OperationID)
			}
			r := route{method: fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), input: m.Input()}
			if op.RequestBody != nil {
				r.body = bound.Body(r.input)
			}
			out[routeKey(strings.ToUpper(verb), path)] = r
		}
	}
	return out, nil
}

// Operation is the id in the API's description of the operation that is a method
// ("/rota.v1.Tasks/ListTasks" is "Tasks_ListTasks"); false if it has none.
func Operation(method string) (id string, ok bool) {
	service, name, ok := strings.Cut(strings.TrimPrefix(method, "/rota.v1."), "/")
	id = service + "_" + name
	return id, ok && strings.HasPrefix(method, "/rota.v1.") && operations()[id]
}

// operations are the ids of all operations that the description names.
var operations = sync.OnceValue(func() map[string]bool {
	out := map[string]bool{}
	all, err := newRoutes()
	if err != nil { // NewHandler has said so
		return out
	}
	for _, r := range all {
		out[strings.ReplaceAll(strings.TrimPrefix(r.method, "/rota.v1."), "/", "_")] = true
	}
	return out
})

// admit asks who calls, and whether they may, when the route is known and before
// a byte of the body is read. Then it reads the body within the limits of the
// route and of who calls.
func (h *root) admit(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		pattern, _ := runtime.HTTPPattern(r.Context())
		to, ok := h.routes[routeKey(r.Method, pattern.String())]
		if !ok { // a test holds the description to what is answered
			refuse(w, r, http.StatusForbidden, "permission_denied", "this call is not open to anybody")
			return
		}
		pass, err := h.enter(r, to.method)
		if err != nil {
			unread.Close(w, r)
			handleError(r.Context(), nil, marshaler{}, w, r, err)
			return
		}
		if !readBody(w, r, pass, to) {
			return
		}
		next(w, r, params)
	}
}

// refuse answers a request of whose body nothing was read.
func refuse(w http.ResponseWriter, r *http.Request, code int, name, message string) {
	unread.Close(w, r)
	writeError(w, code, name, message, "")
}

// bodyTime is how long a body may take as a whole, however steadily it comes.
const bodyTime = 5 * time.Minute
