package bound

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"
)

// Received is a message as it came, before anything of it is decoded. It is what
// a server that uses Codec gives to RecvMsg. Decode or Free ends it.
type Received struct{ data mem.Buffer }

// Codec is the codec of gRPC, which also receives into a *Received.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

type codec struct{ encoding.CodecV2 }

// Unmarshal keeps a reference to what came, or decodes it.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if r, ok := v.(*Received); ok {
		r.data = data.MaterializeToBuffer(mem.DefaultBufferPool())
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Check returns what the message will take when it is decoded into m, and what
// it takes as it is.
func (r *Received) Check(m protobuf.Message) (cost, size int, err error) {
	if r.data == nil {
		return 0, 0, nil
	}
	b := r.data.ReadOnlyData()
	cost, err = Proto(b, m.ProtoReflect().Descriptor())
	return cost, len(b), err
}

// Decode decodes the message into m and frees what came.
func (r *Received) Decode(m protobuf.Message) error {
	defer r.Free()
	if r.data == nil {
		return nil
	}
	if err := protobuf.Unmarshal(r.data.ReadOnlyData(), m); err != nil {
		return fmt.Errorf("the message is not well formed: %w", err)
	}
	return nil
}

// Free gives back what came.
func (r *Received) Free() {
	if r.data != nil {
		r.data.Free()
		r.data = nil
	}
}
