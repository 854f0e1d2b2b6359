package sessions_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/sessions"
)

// TestEveryFieldOfAWorker: all that a worker says of itself is in its session, and all
// of the session is said.
func TestEveryFieldOfAWorker(t *testing.T) {
	t.Parallel()
	said := &rotav1.WorkerInfo{
		Name: "w", Incarnation: "i2", Pid: 3, Host: "h4", Zone: "z5", Labels: map[string]string{"l6": "v"}, Kinds: []string{"k7"}, AnyKind: true,
		Capacity: map[string]float64{"cpus": 9.5}, MaxTasks: 10, Strength: 11.5, RestartGraceMs: 12, Version: "v13", Logs: true,
	}
	bubble(t, sessions.Config{}, func(b *bench) {
		b.join(said, 0)
		b.v.Read(func() {
			session := b.v.Sessions["w"].ProtoReflect()
			there := session.Descriptor().Fields()
			each(said.ProtoReflect(), func(f protoreflect.FieldDescriptor, v protoreflect.Value, set bool) {
				name := f.Name()
				if name == "version" {
					name = "build" // a session has a version of its own
				}
				g := there.ByName(name)
				switch {
				case !set:
					t.Errorf("%s is not tried", f.Name())
				case g == nil || !session.Get(g).Equal(v):
					t.Errorf("%s is lost", f.Name())
				}
			})
			each(session, func(f protoreflect.FieldDescriptor, _ protoreflect.Value, set bool) {
				switch f.Name() {
				case "leaving", "died": // at its end
				default:
					if !set {
						t.Errorf("%s of the session is not set", f.Name())
					}
				}
			})
		})
	})
}

// each goes through the fields of a message; set says that a value is not empty.
func each(m protoreflect.Message, f func(protoreflect.FieldDescriptor, protoreflect.Value, bool)) {
	fields := m.Descriptor().Fields()
	for k := range fields.Len() {
		field := fields.Get(k)
		v := m.Get(field)
		set := m.Has(field)
		if field.IsMap() {
			set = v.Map().Len() > 0
		} else if field.IsList() {
			set = v.List().Len() > 0
		}
		f(field, v, set)
	}
}
