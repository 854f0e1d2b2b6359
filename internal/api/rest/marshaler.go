package rest

import (
	"errors"
	"fmt"
	"io"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/internal/api/jsonpb"
	"github.com/rota-project/rota/internal/packed"
)

const (
	jsonType   = "application/json"
	ndjsonType = packed.Stream
)

// marshaler writes answers as package jsonpb does. A stream is one message a
// line; an error that ends it is a last line {"error": ...}.
type marshaler struct{}

var (
	_ runtime.Marshaler         = marshaler{}
	_ runtime.StreamContentType = marshaler{}
	_ runtime.Delimited         = marshaler{}
)

func (marshaler) ContentType(any) string       { return jsonType }
func (marshaler) StreamContentType(any) string { return ndjsonType }
func (marshaler) Delimiter() []byte            { return []byte("\n") }

// Marshal takes a message, or what the gateway wraps the messages of a stream
// into: {"result": message} and {"error": status}.
func (marshaler) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case proto.Message:
		return jsonpb.Marshal(v)
	case map[string]any:
		if m, ok := v["result"].(proto.Message); ok && len(v) == 1 {
			return jsonpb.Marshal(m)
		}
	case map[string]proto.Message:
		if st, ok := v["error"].(*spb.Status); ok && len(v) == 1 {
			return errorJSON(status.ErrorProto(st)), nil
		}
	}
	return nil, fmt.Errorf("no JSON for a %T", v)
}

func (marshaler) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("no JSON for a %T", v)
	}
	err := jsonpb.Unmarshal(data, m)
	if je := (*jsonpb.Error)(nil); errors.As(err, &je) {
		return &fieldError{je.Field, je.Text}
	}
	return err
}

// NewDecoder reads all of r as one value, so that what follows it is an error.
func (m marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return io.EOF // the gateway takes it as the empty message
		}
		return m.Unmarshal(data, v)
	})
}

func (m marshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := m.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(append(data, '\n'))
		return err
	})
}

// fieldError is an error that names a field and survives the generated code,
// which keeps nothing of an error but its text.
type fieldError struct{ field, text string }

func (e *fieldError) Error() string { return e.field + fieldEnd + e.text }

// fieldEnd stands between field and text; it is in neither.
const fieldEnd = "\x00"
