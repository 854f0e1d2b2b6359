package cli

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rota-project/rota/internal/text"
)

// fieldRows shows a message field by field, under the names that JSON has: all
// that are set, so that no field can be forgotten.
func fieldRows(m protoreflect.Message) (rows [][2]string) {
	fields := m.Descriptor().Fields()
	for k := range fields.Len() {
		f := fields.Get(k)
		if f.IsMap() && m.Get(f).Map().Len() == 0 || f.IsList() && m.Get(f).List().Len() == 0 || !f.IsMap() && !f.IsList() && !m.Has(f) {
			continue
		}
		rows = append(rows, [2]string{string(f.Name()), fieldText(f, m.Get(f))})
	}
	return rows
}

// fieldText is a value in one line: lists by commas, "name=value" for what is in a
// map or a message.
func fieldText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	var parts []string
	switch {
	case f.IsMap():
		for k, v := range v.Map().Range {
			parts = append(parts, k.String()+"="+plainText(f.MapValue(), v))
		}
		slices.Sort(parts)
		return strings.Join(parts, " ")
	case f.IsList():
		for k := range v.List().Len() {
			parts = append(parts, plainText(f, v.List().Get(k)))
		}
		return strings.Join(parts, ", ")
	}
	return plainText(f, v)
}

func plainText(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch f.Kind() {
	case protoreflect.MessageKind:
		var parts []string
		for _, row := range fieldRows(v.Message()) {
			if strings.Contains(row[1], "=") || strings.Contains(row[1], " ") {
				row[1] = "(" + row[1] + ")"
			}
			parts = append(parts, row[0]+"="+row[1])
		}
		return strings.Join(parts, " ")
	case protoreflect.BytesKind:
		return text.Count(len(v.Bytes()), "byte", "bytes")
	case protoreflect.DoubleKind:
		return number(v.Float())
	}
	return fmt.Sprint(v.Interface())
}
