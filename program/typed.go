package program

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// Encoding turns values into the bytes of messages and back.
type Encoding interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

// Available encodings. Gob takes nearly any Go value and describes its type in each
// message; JSON is for readers in other languages; Proto is for protobuf messages.
var (
	Gob   Encoding = gobEncoding{}
	JSON  Encoding = jsonEncoding{}
	Proto Encoding = protoEncoding{}
)

type gobEncoding struct{}

func (gobEncoding) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func (gobEncoding) Unmarshal(data []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(v)
}

type jsonEncoding struct{}

func (jsonEncoding) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonEncoding) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

type protoEncoding struct{}

func (protoEncoding) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", v)
	}
	return proto.Marshal(m)
}

func (protoEncoding) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", v)
	}
	return proto.Unmarshal(data, m)
}

// Typed sends values of Go types as messages: Req in one direction, Resp as the answer.
// Both are plain types (with Proto, the message's struct type); values are passed by
// pointer. The zero value encodes with Gob. Both ends must use the same Typed.
type Typed[Req, Resp any] struct {
	Encoding Encoding
}

func (t Typed[Req, Resp]) encoding() Encoding {
	if t.Encoding == nil {
		return Gob
	}
	return t.Encoding
}

// Send sends a Req to a task or, with an empty name, to the scheduler function.
func (t Typed[Req, Resp]) Send(ctx context.Context, c Conn, task string, req *Req) error {
	data, err := t.encoding().Marshal(req)
	if err != nil {
		return fmt.Errorf("encoding %T: %w", req, err)
	}
	return c.Send(ctx, Msg{Task: task, Data: data})
}

// Broadcast sends a Req to all tasks of a name.
func (t Typed[Req, Resp]) Broadcast(ctx context.Context, c Conn, name string, req *Req) error {
	data, err := t.encoding().Marshal(req)
	if err != nil {
		return fmt.Errorf("encoding %T: %w", req, err)
	}
	return c.Broadcast(ctx, name, data)
}

// Recv waits for the next message and decodes it as a Req. The returned Msg names the
// sender; pass it to Reply.
func (t Typed[Req, Resp]) Recv(ctx context.Context, c Conn) (*Req, Msg, error) {
	m, err := c.Recv(ctx)
	if err != nil {
		return nil, m, err
	}
	req := new(Req)
	if err := t.encoding().Unmarshal(m.Data, req); err != nil {
		return nil, m, fmt.Errorf("decoding %T from %q: %w", req, m.Task, err)
	}
	return req, m, nil
}

// Request sends a Req and waits for its Resp until ctx ends.
func (t Typed[Req, Resp]) Request(ctx context.Context, c Conn, task string, req *Req) (*Resp, error) {
	data, err := t.encoding().Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", req, err)
	}
	m, err := c.Request(ctx, Msg{Task: task, Data: data})
	if err != nil {
		return nil, err
	}
	resp := new(Resp)
	if err := t.encoding().Unmarshal(m.Data, resp); err != nil {
		return nil, fmt.Errorf("decoding %T from %q: %w", resp, m.Task, err)
	}
	return resp, nil
}

// Reply answers m, which Recv returned.
func (t Typed[Req, Resp]) Reply(ctx context.Context, c Conn, m Msg, resp *Resp) error {
	data, err := t.encoding().Marshal(resp)
	if err != nil {
		return fmt.Errorf("encoding %T: %w", resp, err)
	}
	return c.Send(ctx, m.Reply(data))
}

// Serve answers each message with f until the function has to exit, and then returns nil.
// An error of f is the answer to a request. For a message that is no request, an error of f
// ends Serve, as does a message that cannot be decoded. The context of f is within the span
// within which the message was sent; see Config.Traces.
func (t Typed[Req, Resp]) Serve(ctx context.Context, c Conn, f func(ctx context.Context, from string, req *Req) (*Resp, error)) error {
	for {
		req, m, err := t.Recv(ctx, c)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var resp *Resp
		if err == nil {
			resp, err = f(m.Context(ctx), m.Task, req)
		}
		switch {
		case err != nil && m.IsRequest():
			err = c.Send(ctx, m.ReplyError(err))
		case err != nil:
		case resp != nil:
			err = t.Reply(ctx, c, m, resp)
		}
		if err != nil {
			return err
		}
	}
}
