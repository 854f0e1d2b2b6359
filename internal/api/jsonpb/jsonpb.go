// Package jsonpb is rota's JSON: how the messages of the API look as JSON,
// over HTTP and in the output of the command line alike.
//
// It differs from the canonical mapping of protobuf in three points, because
// the JSON is a contract that people read and other programs parse: fields
// have their proto names (snake_case), 64-bit integers are numbers, and every
// field is there, zero or not (empty lists as [], an absent message as null).
// Timestamps are RFC 3339, bytes are base64. Fields come in the order of their
// declaration, keys of maps are sorted, so equal messages give equal bytes.
//
// The HTTP API and the command line call it. It never reads or writes anything
// but the message that it is given.
package jsonpb

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Marshal returns m as JSON on one line, without a line feed at its end.
func Marshal(m proto.Message) ([]byte, error) {
	return Append(nil, m)
}

// Append appends m as JSON on one line to b.
func Append(b []byte, m proto.Message) ([]byte, error) {
	if m == nil {
		return append(b, "null"...), nil
	}
	return appendMessage(b, m.ProtoReflect())
}

func appendMessage(b []byte, m protoreflect.Message) ([]byte, error) {
	if !m.IsValid() {
		return append(b, "null"...), nil
	}
	if m.Descriptor().FullName().Parent() == "google.protobuf" {
		return appendWellKnown(b, m)
	}
	b = append(b, '{')
	fields := m.Descriptor().Fields()
	for i, first := 0, true; i < fields.Len(); i++ {
		fd := fields.Get(i)
		if fd.ContainingOneof() != nil && !m.Has(fd) {
			continue // only the member of a oneof that is set exists
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, fd.Name()...)
		b = append(b, '"', ':')
		var err error
		if b, err = appendField(b, m, fd); err != nil {
			return nil, fmt.Errorf("%s: %w", fd.Name(), err)
		}
	}
	return append(b, '}'), nil
}

func appendField(b []byte, m protoreflect.Message, fd protoreflect.FieldDescriptor) ([]byte, error) {
	switch {
	case fd.IsList():
		return appendList(b, m.Get(fd).List(), fd)
	case fd.IsMap():
		return appendMap(b, m.Get(fd).Map(), fd)
	case fd.Message() != nil && !m.Has(fd):
		return append(b, "null"...), nil
	}
	return appendValue(b, m.Get(fd), fd)
}

func appendList(b []byte, list protoreflect.List, fd protoreflect.FieldDescriptor) ([]byte, error) {
	b = append(b, '[')
	for i := range list.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, list.Get(i), fd); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, m protoreflect.Map, fd protoreflect.FieldDescriptor) ([]byte, error) {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, c protoreflect.MapKey) int {
		switch as, cs := a.String(), c.String(); {
		case as < cs:
			return -1
		case as > cs:
			return 1
		}
		return 0
	})
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k.String())
		b = append(b, ':')
		var err error
		if b, err = appendValue(b, m.Get(k), fd.MapValue()); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendValue(b []byte, v protoreflect.Value, fd protoreflect.FieldDescriptor) ([]byte, error) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool()), nil
	case protoreflect.StringKind:
		return appendString(b, v.String()), nil
	case protoreflect.BytesKind:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"'), nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case protoreflect.FloatKind:
		return appendFloat(b, v.Float(), 32), nil
	case protoreflect.DoubleKind:
		return appendFloat(b, v.Float(), 64), nil
	case protoreflect.EnumKind:
		if ev := fd.Enum().Values().ByNumber(v.Enum()); ev != nil {
			return appendString(b, string(ev.Name())), nil
		}
		return strconv.AppendInt(b, int64(v.Enum()), 10), nil
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return appendMessage(b, v.Message())
	}
	return nil, fmt.Errorf("no JSON for the kind %v", fd.Kind())
}

// appendFloat writes whole numbers without a fraction or exponent and the
// values that JSON has no number for as the strings that protojson also takes.
func appendFloat(b []byte, f float64, bits int) []byte {
	const exact = 1 << 53
	switch {
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(b, `"-Infinity"`...)
	case f == math.Trunc(f) && math.Abs(f) < exact:
		return strconv.AppendInt(b, int64(f), 10)
	}
	return strconv.AppendFloat(b, f, 'g', -1, bits)
}

// appendWellKnown writes the messages that have a JSON form of their own.
// Timestamps are frequent (one an instance) and written here; for the others
// the canonical mapping is ours too.
func appendWellKnown(b []byte, m protoreflect.Message) ([]byte, error) {
	if ts, ok := m.Interface().(*timestamppb.Timestamp); ok {
		if err := ts.CheckValid(); err != nil {
			return nil, err
		}
		b = append(b, '"')
		b = ts.AsTime().AppendFormat(b, time.RFC3339Nano)
		return append(b, '"'), nil
	}
	out, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m.Interface())
	if err != nil {
		return nil, err
	}
	return append(b, out...), nil
}

const hex = "0123456789abcdef"

// appendString writes s quoted. Invalid UTF-8 becomes U+FFFD. U+2028 and U+2029
// are escaped, so that the text is also a string of JavaScript.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			b = append(b, s[start:i]...)
			b = append(b, `\u202`...)
			b = append(b, hex[r&15])
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
