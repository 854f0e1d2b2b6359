package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
)

// errorBody is the answer to every call that fails:
// {"error": {"code": "not_found", "message": "...", "field": "id"}}.
// Codes are those of gRPC in lower case; field is only there if one is wrong, reason
// only where package auth names one.
type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Field   string `json:"field,omitempty"`
		Reason  string `json:"reason,omitempty"`
	} `json:"error"`
}

func newErrorBody(code, message, field, reason string) []byte {
	var body errorBody
	body.Error.Code, body.Error.Message, body.Error.Field, body.Error.Reason = code, message, field, reason
	out, err := json.Marshal(body)
	if err != nil { // strings always marshal
		return []byte(`{"error":{"code":"internal","message":""}}`)
	}
	return out
}

func writeError(w http.ResponseWriter, code int, name, message, field string) {
	writeReason(w, code, name, message, field, "")
}

// WriteError answers a request with a gRPC error, as all of the API does.
func WriteError(w http.ResponseWriter, err error) {
	st := status.Convert(err)
	message := st.Message()
	field := convert.Field(err)
	if field == "" && st.Code() == codes.InvalidArgument {
		field, message = fieldOf(message)
	}
	writeReason(w, httpStatus(st.Code()), codeName(st.Code()), message, field, auth.Reason(err))
}

// NoSuchVerb answers a request whose method there is not at its path.
func NoSuchVerb(w http.ResponseWriter, r *http.Request) {
	handleRoutingError(r.Context(), nil, nil, w, r, http.StatusMethodNotAllowed)
}

func writeReason(w http.ResponseWriter, code int, name, message, field, reason string) {
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(newErrorBody(name, message, field, reason), '\n'))
}

// errorJSON is the body for a gRPC error.
func errorJSON(err error) []byte {
	st := status.Convert(err)
	return newErrorBody(codeName(st.Code()), st.Message(), convert.Field(err), auth.Reason(err))
}

// handleError answers a call that the gRPC side refused, or that never got there.
func handleError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	WriteError(w, err)
}

// parameter is how the gateway words a query parameter of a wrong type, or one
// that is there more often than it may be.
var parameter = regexp.MustCompile(`^(?:parsing|too many values for) (?:field|list) "(?:[^"]+\.)?([^".]+)": (.*)$`)

// unparsed is what strconv says of a value that it cannot read, and wants what it has to be.
var (
	unparsed = regexp.MustCompile(`^strconv\.Parse(Int|Uint|Float|Bool): parsing (".*"): [a-z ]+$`)
	wants    = map[string]string{"Int": "a whole number", "Uint": "a whole number from 0 on", "Float": "a number", "Bool": "true or false"}
)

// fieldOf returns the field that the text of an error names, if any, and what
// is to be said of it.
func fieldOf(text string) (field, message string) {
	if field, message, ok := strings.Cut(text, fieldEnd); ok {
		return field, message
	}
	if found := parameter.FindStringSubmatch(text); found != nil {
		if bad := unparsed.FindStringSubmatch(found[2]); bad != nil {
			return found[1], fmt.Sprintf("%s: %s: want %s", found[1], bad[2], wants[bad[1]])
		}
		return found[1], fmt.Sprintf("query parameter %s: %s", found[1], found[2])
	}
	return "", text
}

// handleRoutingError answers what is no call at all.
func handleRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	switch code {
	case http.StatusMethodNotAllowed:
		writeError(w, code, "unimplemented", r.Method+" is not possible for "+r.URL.Path, "")
	case http.StatusBadRequest:
		writeError(w, code, "invalid_argument", "the path "+r.URL.Path+" is not well formed", "")
	default:
		writeError(w, http.StatusNotFound, "not_found", "nothing is at "+r.URL.Path, "")
	}
}

func httpStatus(c codes.Code) int {
	switch c { //nolint:exhaustive // the rest is as the gateway has it
	case codes.FailedPrecondition, codes.Aborted, codes.AlreadyExists:
		return http.StatusConflict
	case codes.Canceled:
		return 499 // the client has gone
	}
	return runtime.HTTPStatusFromCode(c)
}

// codeName is a gRPC code in the spelling of JSON: "NotFound" is "not_found".
func codeName(c codes.Code) string {
	name := c.String()
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 && (name[i-1] < 'A' || name[i-1] > 'Z') {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
