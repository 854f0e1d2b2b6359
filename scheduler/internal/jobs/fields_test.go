package jobs

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/test/filled"
	"github.com/rota-project/rota/internal/uuid"
)

// TestEveryFieldOfAJob gives every field of what is asked for a value, and of what has
// become of it, and follows them into the store and back, and into the API and back. A
// field that is added and forgotten somewhere fails it.
func TestEveryFieldOfAJob(t *testing.T) {
	t.Parallel()
	var spec job.Spec
	n := 0
	filled.Fill(reflect.ValueOf(&spec).Elem(), &n)
	for _, d := range []*time.Duration{&spec.Timeout, &spec.Grace, &spec.Backoff, &spec.MaxBackoff, &spec.Keep} {
		*d *= 1_000_000 // the API counts in milliseconds
	}
	created, id := time.UnixMicro(7).UTC(), uuid.Of("filled")
	declared := job.New(id, created)
	declared.Trace, declared.Schedule = "trace", "schedule"
	value, err := encodeSpec(declared, spec)
	if err != nil {
		t.Fatal(err)
	}
	again, got, err := decodeSpec(value)
	if err != nil || !reflect.DeepEqual(again, declared) || !reflect.DeepEqual(got, spec) {
		t.Errorf("the store: %v\n got %+v\nwant %+v", err, got, spec)
	}
	def := definitionOf(spec)
	if got, err := specOf(def); err != nil || !reflect.DeepEqual(got, spec) {
		t.Errorf("the API: %v\n got %+v\nwant %+v", err, got, spec)
	}
	m := def.ProtoReflect()
	for k := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(k)
		if f.Name() != "stdin" && !isSet(m, f) { // the same as stdin_base64
			t.Errorf("the API: %s is not set", f.Name())
		}
	}
	asked := reflect.TypeFor[job.Spec]()
	for k := range asked.NumField() {
		other := spec
		reflect.ValueOf(&other).Elem().Field(k).SetZero()
		if spec.Equal(other) {
			t.Errorf("a change of %s is none", asked.Field(k).Name)
		}
	}

	j := job.Job{ID: id, Created: created, Trace: declared.Trace, Schedule: declared.Schedule}
	filled.Fill(reflect.ValueOf(&j.Attempts).Elem(), &n)
	j.State, j.Count, j.Failures, j.StopAsked, j.Reason = job.Running, 3, 2, true, "why"
	j.Finished, j.NotBefore = time.UnixMicro(11).UTC(), time.UnixMicro(12).UTC()
	if value, err = encodeState(j); err != nil {
		t.Fatal(err)
	}
	if got, err := decodeState(value, j.Declared()); err != nil || !reflect.DeepEqual(got, j) {
		t.Errorf("the state: %v\n got %+v\nwant %+v", err, got, j)
	}
	for k := range reflect.TypeFor[job.Job]().NumField() {
		if f := reflect.ValueOf(j).Field(k); f.IsZero() {
			t.Errorf("%s is not tried", reflect.TypeFor[job.Job]().Field(k).Name)
		}
	}
}

func isSet(m protoreflect.Message, f protoreflect.FieldDescriptor) bool {
	switch v := m.Get(f); {
	case f.IsMap():
		return v.Map().Len() > 0
	case f.IsList():
		return v.List().Len() > 0
	}
	return m.Has(f)
}
