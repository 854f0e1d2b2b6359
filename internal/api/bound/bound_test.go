package bound

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// repeat is a message whose field has n values that are all the same.
func repeat(n int, num protowire.Number, value []byte) []byte {
	one := protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value)
	return bytes.Repeat(one, n)
}

func list(n int, before, one, after string) []byte {
	return []byte(before + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + after)
}

// hostile are few bytes that would become much.
var hostile = []struct {
	name    string
	message proto.Message
	field   string
	limit   int
	wire    func(n int) []byte
	json    func(n int) []byte
}{
	{
		"empty tasks", &rotav1.ApplyTasksRequest{}, "tasks", 100_000,
		func(n int) []byte { return repeat(n, 1, nil) },
		func(n int) []byte { return list(n, `{"tasks":[`, `{}`, `]}`) },
	},
	{
		"empty tasks of a plan", &rotav1.GetPlanRequest{}, "tasks", 100_000,
		func(n int) []byte { return repeat(n, 4, nil) },
		func(n int) []byte { return list(n, ` { "t\u0061sks" : [`, ` {} `, ` ] }`) },
	},
	{
		"empty ids", &rotav1.DeleteTasksRequest{}, "ids", 100_000,
		func(n int) []byte { return repeat(n, 1, nil) },
		func(n int) []byte { return list(n, `{"ids":[`, `""`, `]}`) },
	},
	{
		"empty rules of one task", &rotav1.ApplyTasksRequest{}, "affinity", maxList,
		func(n int) []byte { return repeat(1, 1, repeat(n, 14, nil)) },
		func(n int) []byte { return list(n, `{"tasks":[{"id":"]}\"","affinity":[`, `{}`, `]}]}`) },
	},
	{
		"resources", &rotav1.ApplyTasksRequest{}, "resources", maxList,
		func(n int) []byte { return repeat(1, 1, repeat(n, 11, nil)) },
		func(n int) []byte {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, `,"%d":1`, i)
			}
			return []byte(`{"tasks":[{"resources":{` + b.String()[1:] + `}}]}`)
		},
	},
	{
		"arguments", &rotav1.RunJobRequest{}, "argv", 1024,
		func(n int) []byte { return repeat(1, 1, repeat(n, 1, nil)) },
		func(n int) []byte { return list(n, `{"job":{"argv":[`, `""`, `]}}`) },
	},
	{"grants held", &rotav1.FromWorker{}, "held", 1_000_000, func(n int) []byte { return repeat(1, 1, repeat(n, 4, nil)) }, nil},
	{"one after the other", &rotav1.FromWorker{}, "acks", 1_000_000, func(n int) []byte { return repeat(1, 3, repeat(n, 1, nil)) }, nil},
}

// TestLists: a list has as many entries as its limit, and not one more; the error
// names both.
func TestLists(t *testing.T) {
	t.Parallel()
	for _, c := range hostile {
		for kind, read := range readers(c.wire, c.json) {
			t.Run(c.name+" as "+kind, func(t *testing.T) {
				t.Parallel()
				if _, err := read.check(read.make(c.limit), c.message.ProtoReflect().Descriptor()); err != nil {
					t.Errorf("as many as there may be: %v", err)
				}
				_, err := read.check(read.make(c.limit+1), c.message.ProtoReflect().Descriptor())
				fe := (*rota.FieldError)(nil)
				if !errors.As(err, &fe) || fe.Field != c.field || !strings.Contains(err.Error(), fmt.Sprintf("at most %d entries", c.limit)) {
					t.Errorf("one more: %v", err)
				}
			})
		}
	}
}

type reader struct {
	make   func(n int) []byte
	check  func([]byte, protoreflect.MessageDescriptor) (int, error)
	decode func([]byte, proto.Message) error
}

func readers(wire, json func(n int) []byte) map[string]reader {
	out := map[string]reader{"protobuf": {wire, Proto, proto.Unmarshal}}
	if json != nil {
		out["JSON"] = reader{json, JSON, protojson.Unmarshal}
	}
	return out
}

// TestCost: what a message takes is about what was said of it before, and what is
// refused has taken next to nothing.
func TestCost(t *testing.T) { //nolint:paralleltest // it measures what the process allocates
	allocated := func(f func()) int {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		f()
		runtime.GC()
		runtime.ReadMemStats(&after)
		return int(after.HeapAlloc) - int(before.HeapAlloc)
	}
	for _, c := range hostile {
		for kind, read := range readers(c.wire, c.json) {
			b := read.make(c.limit)
			md := c.message.ProtoReflect().Descriptor()
			cost, err := read.check(b, md)
			if err != nil {
				t.Fatal(err)
			}
			m := c.message.ProtoReflect().New().Interface()
			took := allocated(func() {
				if err := read.decode(b, m); err != nil {
					t.Fatalf("%s as %s: %v", c.name, kind, err)
				}
			})
			runtime.KeepAlive(m)
			if took > cost+1<<20 || cost > 8*took+1<<20 {
				t.Errorf("%s as %s: %d bytes took %d, %d were said", c.name, kind, len(b), took, cost)
			}
			b = read.make(3 * c.limit)
			if took := testing.AllocsPerRun(1, func() { _, err = read.check(b, md) }); err == nil || took > 100 {
				t.Errorf("%s as %s, many more: %v after %v allocations", c.name, kind, err, took)
			}
		}
	}
}

// TestParts: a list cannot be said in parts.
func TestParts(t *testing.T) {
	t.Parallel()
	job := repeat(1, 1, repeat(1000, 1, nil))
	if _, err := Proto(append(job, job...), (&rotav1.RunJobRequest{}).ProtoReflect().Descriptor()); err == nil || !strings.HasPrefix(err.Error(), "job: ") {
		t.Errorf("one job twice: %v", err)
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	md := (&rotav1.ApplyTasksRequest{}).ProtoReflect().Descriptor()
	for _, one := range []string{`[`, `{"tasks":[`, `{"a":`} {
		if _, err := JSON([]byte(strings.Repeat(one, 1_000_000)), md); one != `{"a":` && err == nil {
			t.Errorf("a million %s: no error", one)
		}
	}
}

// TestLimitsAreOfFields: a limit of a field that is not there holds nothing.
func TestLimitsAreOfFields(t *testing.T) {
	t.Parallel()
	for name, most := range Lists {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if fd, ok := d.(protoreflect.FieldDescriptor); err != nil || !ok || !fd.IsList() || most <= maxList {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Body((&rotav1.ApplyTasksRequest{}).ProtoReflect().Descriptor()) != MaxListBody ||
		Body((&rotav1.StopJobRequest{}).ProtoReflect().Descriptor()) != MaxBody {
		t.Error("bodies")
	}
}

// longest is the length of the longest list or map of a message.
func longest(m protoreflect.Message) (n int) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList():
			n = max(n, v.List().Len())
			for i := range v.List().Len() {
				if fd.Message() != nil {
					n = max(n, longest(v.List().Get(i).Message()))
				}
			}
		case fd.IsMap():
			n = max(n, v.Map().Len())
		case fd.Message() != nil:
			n = max(n, longest(v.Message()))
		}
		return true
	})
	return n
}

// FuzzBound: whatever is let pass and decodes has no list that is too long,
// however it is written.
func FuzzBound(f *testing.F) {
	for _, c := range hostile {
		f.Add(c.wire(3))
		if c.json != nil {
			f.Add(c.json(3))
		}
	}
	f.Add([]byte(`{"tasks":[{"spread":{"shares":{"a":1,"b":2,"c":3}}}]}`))
	few := &limits{list: 2}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []proto.Message{&rotav1.ApplyTasksRequest{}, &rotav1.GetPlanRequest{}, &rotav1.RunJobRequest{}, &rotav1.FromWorker{}} {
			md := m.ProtoReflect().Descriptor()
			w := wire{limits: few}
			if _, err := w.message(b, md, 1); err == nil && proto.Unmarshal(b, m) == nil && longest(m.ProtoReflect()) > 2 {
				t.Errorf("%x as a %s", b, md.Name())
			}
			s := text{limits: few, b: b}
			if _, err := s.value(&field{message: md}, 1); err == nil && protojson.Unmarshal(b, m) == nil && longest(m.ProtoReflect()) > 2 {
				t.Errorf("%s as a %s", b, md.Name())
			}
		}
	})
}
