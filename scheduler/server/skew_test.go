package server_test

import (
	"fmt"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// TestEarlierMessages: what a scheduler, a worker or a client of the earlier revision says
// or has stored means the same here, and the other way round. testdata/earlier.binpb has
// the messages of that revision; it is made anew at each release, by
// buf build --exclude-source-info -o scheduler/server/testdata/earlier.binpb
func TestEarlierMessages(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/earlier.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	earlier, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	earlier.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if f.Package() == "google.protobuf" {
			return true
		}
		n += compare(t, f, protoregistry.GlobalFiles)
		return true
	})
	if n < 1000 {
		t.Errorf("%d fields, values and methods were compared", n)
	}
}

// compare holds the present messages, enums and services to those of an earlier file.
func compare(t *testing.T, f protoreflect.FileDescriptor, now *protoregistry.Files) (n int) {
	find := func(d protoreflect.Descriptor) protoreflect.Descriptor {
		found, err := now.FindDescriptorByName(d.FullName())
		if err != nil {
			t.Errorf("%s is gone", d.FullName())
		}
		return found
	}
	enums := func(list protoreflect.EnumDescriptors) {
		for i := range list.Len() {
			e, ok := find(list.Get(i)).(protoreflect.EnumDescriptor)
			if !ok {
				continue
			}
			for _, v := range differentValues(list.Get(i), e) {
				t.Error(v)
			}
			n += list.Get(i).Values().Len()
		}
	}
	var messages func(protoreflect.MessageDescriptors)
	messages = func(list protoreflect.MessageDescriptors) {
		for i := range list.Len() {
			was := list.Get(i)
			is, ok := find(was).(protoreflect.MessageDescriptor)
			if !ok {
				continue
			}
			for _, d := range differentFields(was, is) {
				t.Error(d)
			}
			n += was.Fields().Len()
			enums(was.Enums())
			messages(was.Messages())
		}
	}
	enums(f.Enums())
	messages(f.Messages())
	for i := range f.Services().Len() {
		methods := f.Services().Get(i).Methods()
		for j := range methods.Len() {
			was := methods.Get(j)
			is, ok := find(was).(protoreflect.MethodDescriptor)
			if ok && callOf(is) != callOf(was) {
				t.Errorf("%s is %s, was %s", was.FullName(), callOf(is), callOf(was))
			}
			n++
		}
	}
	return n
}

// callOf is what both ends of a call agree on.
func callOf(m protoreflect.MethodDescriptor) string {
	return fmt.Sprint(m.Input().FullName(), m.IsStreamingClient(), m.Output().FullName(), m.IsStreamingServer())
}

// fieldOf is what both ends agree on of a field, on the wire and as JSON.
func fieldOf(f protoreflect.FieldDescriptor) string {
	of := ""
	switch {
	case f.Message() != nil:
		of = string(f.Message().FullName())
	case f.Enum() != nil:
		of = string(f.Enum().FullName())
	}
	return fmt.Sprintf("%s %s %s %s", f.JSONName(), f.Cardinality(), f.Kind(), of)
}

// differentFields are the fields of an earlier message that mean something else in the
// present one, or may: those that are gone without their numbers being reserved.
func differentFields(was, is protoreflect.MessageDescriptor) (list []string) {
	for i := range was.Fields().Len() {
		f := was.Fields().Get(i)
		switch g := is.Fields().ByNumber(f.Number()); {
		case g == nil && !is.ReservedRanges().Has(f.Number()):
			list = append(list, fmt.Sprintf("%s is gone, and its number %d is not reserved", f.FullName(), f.Number()))
		case g != nil && fieldOf(g) != fieldOf(f):
			list = append(list, fmt.Sprintf("%s, number %d, is %q, was %q", f.FullName(), f.Number(), fieldOf(g), fieldOf(f)))
		}
	}
	return list
}

// differentValues are the same of an enum.
func differentValues(was, is protoreflect.EnumDescriptor) (list []string) {
	for i := range was.Values().Len() {
		v := was.Values().Get(i)
		switch w := is.Values().ByNumber(v.Number()); {
		case w == nil && !is.ReservedRanges().Has(v.Number()):
			list = append(list, fmt.Sprintf("%s is gone, and its number %d is not reserved", v.FullName(), v.Number()))
		case w != nil && w.Name() != v.Name():
			list = append(list, fmt.Sprintf("%s, number %d, is %s", v.FullName(), v.Number(), w.Name()))
		}
	}
	return list
}

// TestDifferences: each kind of change that an earlier revision would misread is seen.
func TestDifferences(t *testing.T) {
	t.Parallel()
	message := func(change func(*descriptorpb.DescriptorProto)) protoreflect.MessageDescriptor {
		m := &descriptorpb.DescriptorProto{Name: proto.String("M"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("a"), JsonName: proto.String("a"), Number: proto.Int32(1),
			Type: descriptorpb.FieldDescriptorProto_TYPE_INT64.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}}}
		change(m)
		f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
			Name: proto.String("m.proto"), Package: proto.String("p"), Syntax: proto.String("proto3"), MessageType: []*descriptorpb.DescriptorProto{m},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return f.Messages().Get(0)
	}
	was := message(func(*descriptorpb.DescriptorProto) {})
	for name, c := range map[string]struct {
		change func(*descriptorpb.DescriptorProto)
		seen   bool
	}{
		"nothing": {func(*descriptorpb.DescriptorProto) {}, false},
		"another field": {func(m *descriptorpb.DescriptorProto) {
			b := proto.CloneOf(m.GetField()[0])
			b.Name, b.JsonName, b.Number = proto.String("b"), proto.String("b"), proto.Int32(2)
			m.Field = append(m.Field, b)
		}, false},
		"gone": {func(m *descriptorpb.DescriptorProto) { m.Field = nil }, true},
		"gone and reserved": {func(m *descriptorpb.DescriptorProto) {
			m.Field = nil
			m.ReservedRange = []*descriptorpb.DescriptorProto_ReservedRange{{Start: proto.Int32(1), End: proto.Int32(2)}}
		}, false},
		"another number": {func(m *descriptorpb.DescriptorProto) { m.Field[0].Number = proto.Int32(3) }, true},
		"another type": {func(m *descriptorpb.DescriptorProto) {
			m.Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()
		}, true},
		"a list": {func(m *descriptorpb.DescriptorProto) {
			m.Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}, true},
		"another name": {func(m *descriptorpb.DescriptorProto) {
			m.Field[0].Name, m.Field[0].JsonName = proto.String("c"), proto.String("c")
		}, true},
	} {
		if list := differentFields(was, message(c.change)); (len(list) > 0) != c.seen {
			t.Errorf("%s: %q", name, list)
		}
	}
}
