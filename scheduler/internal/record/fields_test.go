package record

import (
	"reflect"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/test/filled"
	"github.com/rota-project/rota/ownership"
)

// TestEveryFieldOfATask gives every field of a task a value and follows it into the
// store and back. The shapes beside the store's have a test of the same name.
func TestEveryFieldOfATask(t *testing.T) {
	t.Parallel()
	var task rota.Task
	n := 0
	filled.Fill(reflect.ValueOf(&task).Elem(), &n)
	task.Mode = rota.Available
	kept := NewTask(task, "declared")
	if got := kept.Task(); !reflect.DeepEqual(got, task) {
		t.Errorf("got %+v\nwant %+v", got, task)
	}
}

// TestEveryFieldOfAGrant does the same for grants, and what workers say of them.
func TestEveryFieldOfAGrant(t *testing.T) {
	t.Parallel()
	var g Grant
	n := 0
	filled.Fill(reflect.ValueOf(&g).Elem(), &n)
	value, err := encodeGrants([]Grant{g}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := decodeGrants(value); err != nil || len(got) != 1 || got[0] != g {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, g)
	}
	other := g
	filled.EachZeroed(reflect.ValueOf(&other).Elem(), "Grant", func(field string) {
		if equalGrants(&g, &other) {
			t.Errorf("a change of %s is none", field)
		}
	})
	var a Ack
	filled.Fill(reflect.ValueOf(&a).Elem(), &n)
	a.State = ownership.Running
	if value, err = encodeAcks([]Ack{a}, nil); err != nil {
		t.Fatal(err)
	}
	if got, _, err := decodeAcks(value); err != nil || len(got) != 1 || got[0] != a {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, a)
	}
}

// TestChangesOfATask: a change of each of its fields is a change of its record.
func TestChangesOfATask(t *testing.T) {
	t.Parallel()
	var task, other rota.Task
	n, m := 0, 0
	filled.Fill(reflect.ValueOf(&task).Elem(), &n)
	filled.Fill(reflect.ValueOf(&other).Elem(), &m)
	task.Mode, other.Mode = rota.Available, rota.Available
	was := NewTask(task, "declared")
	filled.EachZeroed(reflect.ValueOf(&other).Elem(), "Task", func(field string) {
		if now := NewTask(other, "declared"); was.equal(&now) {
			t.Errorf("a change of %s is none", field)
		}
	})
	if now := NewTask(other, "another"); was.equal(&now) {
		t.Error("a change of the source is none")
	}
}
