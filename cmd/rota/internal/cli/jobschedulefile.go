package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/linedoc"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/wholefile"
)

// maxScheduleFile is the maximum size of a file of schedules in bytes.
const maxScheduleFile = 1 << 20

// readSchedules reads a file: one schedule, a list, or an object with such a list under
// "schedules"; YAML may have several documents. The scheduler says whether they are valid.
func (a *app) readSchedules(name string) ([]*rotav1.JobScheduleDefinition, error) {
	var data []byte
	var err error
	if name == "-" {
		name = stdinName
		if data, err = io.ReadAll(io.LimitReader(a.env.Stdin, maxScheduleFile+1)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	} else if data, err = wholefile.Read(name, maxScheduleFile); err != nil {
		return nil, err
	}
	if len(data) > maxScheduleFile {
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxScheduleFile)
	}
	docs, err := linedoc.YAML(data, linedoc.MaxMarks)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var out []*rotav1.JobScheduleDefinition
	for _, doc := range docs {
		if doc.Kind == linedoc.Table && len(doc.Fields) == 1 && doc.Fields[0].Name == "schedules" {
			doc = doc.Fields[0].Value
		}
		list := []linedoc.Value{doc}
		if doc.Kind == linedoc.List {
			list = doc.Items
		}
		for _, v := range list {
			d := &rotav1.JobScheduleDefinition{}
			if err := decodeDoc(d.ProtoReflect(), "", v); err != nil {
				return nil, fmt.Errorf("%s:%w", name, err)
			}
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no schedule in it", name)
	}
	return out, nil
}

// decodeDoc reads a table into a message: its fields have their names in the API, but times
// are durations, without the _ms. So none can be forgotten.
func decodeDoc(m protoreflect.Message, at string, v linedoc.Value) error {
	if v.Kind != linedoc.Table {
		return wrongAt(v, at, "a table")
	}
	fields := m.Descriptor().Fields()
	for _, entry := range v.Fields {
		field := strings.TrimPrefix(at+"."+entry.Name, ".")
		fd, long := fields.ByName(protoreflect.Name(entry.Name)), fields.ByName(protoreflect.Name(entry.Name+"_ms"))
		switch {
		case entry.Value.Kind == linedoc.Null && (fd != nil || long != nil):
			continue
		case long != nil:
			d, err := time.ParseDuration(entry.Value.Text)
			if err != nil || entry.Value.Kind != linedoc.String {
				return wrongAt(entry.Value, field, "a duration, such as 10m")
			}
			m.Set(long, protoreflect.ValueOfInt64(d.Milliseconds()))
			continue
		case fd == nil, strings.HasSuffix(entry.Name, "_ms"):
			return fmt.Errorf("%d: %s: %s: want one of %s", entry.Line, text.Clip(field, text.Short), linedoc.Unknown, strings.Join(docNames(fields), ", "))
		}
		if err := decodeField(m, fd, field, entry.Value); err != nil {
			return err
		}
	}
	return nil
}

func decodeField(m protoreflect.Message, fd protoreflect.FieldDescriptor, field string, v linedoc.Value) error {
	switch {
	case fd.IsMap():
		if v.Kind != linedoc.Table {
			return wrongAt(v, field, "a table")
		}
		into := m.Mutable(fd).Map()
		for _, entry := range v.Fields {
			value, err := scalarOf(fd.MapValue(), field+"."+entry.Name, entry.Value)
			if err != nil {
				return err
			}
			into.Set(protoreflect.ValueOfString(entry.Name).MapKey(), value)
		}
		return nil
	case fd.IsList():
		if v.Kind != linedoc.List {
			return wrongAt(v, field, "a list")
		}
		into := m.Mutable(fd).List()
		for n, item := range v.Items {
			value, err := scalarOf(fd, fmt.Sprintf("%s[%d]", field, n), item)
			if err != nil {
				return err
			}
			into.Append(value)
		}
		return nil
	case fd.Kind() == protoreflect.MessageKind:
		return decodeDoc(m.Mutable(fd).Message(), field, v)
	}
	value, err := scalarOf(fd, field, v)
	if err == nil {
		m.Set(fd, value)
	}
	return err
}

var errKind = errors.New("a field of a kind that files do not have")

func scalarOf(fd protoreflect.FieldDescriptor, field string, v linedoc.Value) (out protoreflect.Value, err error) {
	switch fd.Kind() { //nolint:exhaustive // the rest is an error
	case protoreflect.StringKind:
		if v.Kind != linedoc.String && (!v.Plain || v.Text == "") {
			return out, wrongAt(v, field, "text")
		}
		return protoreflect.ValueOfString(v.Text), nil
	case protoreflect.BoolKind:
		if v.Kind != linedoc.Bool {
			return out, wrongAt(v, field, "true or false")
		}
		return protoreflect.ValueOfBool(v.Bool), nil
	case protoreflect.DoubleKind:
		if v.Kind != linedoc.Number {
			return out, wrongAt(v, field, "a number")
		}
		return protoreflect.ValueOfFloat64(v.Num), nil
	case protoreflect.Int64Kind:
		if v.Kind != linedoc.Number || v.Num != math.Trunc(v.Num) || math.Abs(v.Num) > math.MaxInt32 {
			return out, wrongAt(v, field, "a whole number")
		}
		return protoreflect.ValueOfInt64(int64(v.Num)), nil
	case protoreflect.BytesKind:
		b, err := base64.StdEncoding.DecodeString(v.Text)
		if err != nil || v.Kind != linedoc.String {
			return out, wrongAt(v, field, "base64")
		}
		return protoreflect.ValueOfBytes(b), nil
	}
	return out, fmt.Errorf("%d: %s: %w", v.Line, field, errKind)
}

func docNames(fields protoreflect.FieldDescriptors) (out []string) {
	for n := range fields.Len() {
		out = append(out, strings.TrimSuffix(string(fields.Get(n).Name()), "_ms"))
	}
	return out
}

func wrongAt(v linedoc.Value, field, want string) error {
	found := v.Found()
	if s, ok := found.(string); ok {
		found = linedoc.Word(fmt.Sprintf("%q", s))
	}
	if field == "" {
		field = "schedule"
	}
	return fmt.Errorf("%d: %s: %v: want %s", v.Line, text.Clip(field, text.Short), found, want)
}
