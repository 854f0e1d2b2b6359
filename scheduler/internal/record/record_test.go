package record

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/storepb"
)

var (
	genName   = rapid.StringMatching(`[a-zé日]{1,8}`)
	genText   = rapid.OneOf(rapid.Just(""), rapid.StringN(0, 40, -1))
	genAmount = rapid.Float64Range(0, 1e9)
	genMap    = rapid.MapOfN(genName, genAmount, 0, 3)
)

var genInstance = rapid.Custom(func(t *rapid.T) rota.Instance {
	i := rota.Instance{Task: genName.Draw(t, "task")}
	if rapid.Bool().Draw(t, "replica") {
		i.Index = rapid.IntRange(1, rota.MaxReplicas-1).Draw(t, "index")
	}
	return i
})

var genGrant = rapid.Custom(func(t *rapid.T) Grant {
	return Grant{Trace: rapid.SampledFrom([]string{"", strings.Repeat("\x01\xff", 12) + "\x01"}).Draw(t, "trace"), Grant: ownership.Grant{
		Instance: genInstance.Draw(t, "instance"), Generation: rota.Generation(rapid.Uint64().Draw(t, "generation")),
		Session: rapid.Int64().Draw(t, "session"), Revoked: rapid.Bool().Draw(t, "revoked"),
		Spec: rapid.Uint64().Draw(t, "spec"), Reason: genText.Draw(t, "reason"),
	}}
})

var genAck = rapid.Custom(func(t *rapid.T) Ack {
	return Ack{
		Ack: ownership.Ack{
			Instance: genInstance.Draw(t, "instance"), Generation: rota.Generation(rapid.Uint64().Draw(t, "generation")),
			State: rapid.SampledFrom([]ownership.State{"", ownership.Running, ownership.Stuck, "other"}).Draw(t, "state"),
			Error: genText.Draw(t, "error"), Restarts: rapid.Uint32().Draw(t, "restarts"),
			Exit: ownership.ExitOf(rapid.SampledFrom([]int64{-1, 0, 3, 255}).Draw(t, "exit")),
		},
		Since: rapid.Int64().Draw(t, "since"), Load: rapid.SampledFrom([]float32{-1, 0, 1.5, 1e9}).Draw(t, "load"),
	}
})

var genTask = rapid.Custom(func(t *rapid.T) Task {
	r := rota.Task{
		ID: genName.Draw(t, "id"), Kind: rapid.SampledFrom([]string{"", "task", "feed"}).Draw(t, "kind"), Group: genText0.Draw(t, "group"),
		Key: genText0.Draw(t, "key"), Weight: genAmount.Draw(t, "weight"), Priority: rapid.Float64Range(-9, 9).Draw(t, "priority"),
		Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"), Replicas: rapid.IntRange(0, rota.MaxReplicas).Draw(t, "replicas"),
		Mode: rapid.SampledFrom([]rota.Mode{"", rota.Exclusive, rota.Available}).Draw(t, "mode"),
	}
	if rapid.Bool().Draw(t, "rare") {
		r.Resources = genMap.Draw(t, "resources")
		r.Rules = rota.Rules{
			Require: rapid.SliceOfN(genName, 0, 2).Draw(t, "require"),
			Gang:    genText0.Draw(t, "gang"), Pinned: genText0.Draw(t, "pinned"), Preempt: rapid.Bool().Draw(t, "preempt"),
		}
		for range rapid.IntRange(0, 2).Draw(t, "prefers") {
			r.Rules.Prefer = append(r.Rules.Prefer, rota.Preference{Label: genName.Draw(t, "label"), Weight: genAmount.Draw(t, "w")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "affinities") {
			r.Rules.Affinity = append(r.Rules.Affinity, rota.Affinity{
				Group: genName.Draw(t, "near"), Anti: rapid.Bool().Draw(t, "anti"), Required: rapid.Bool().Draw(t, "required"), Weight: genAmount.Draw(t, "w"),
			})
		}
		if rapid.Bool().Draw(t, "spreads") {
			r.Rules.Spread = &rota.Spread{Label: genName.Draw(t, "label"), Shares: genMap.Draw(t, "shares"), ByGroup: rapid.Bool().Draw(t, "by")}
		}
	}
	n := NewTask(r, genText0.Draw(t, "source"))
	if got := n.Task(); !got.Equal(r) {
		t.Fatalf("record of %+v gives %+v", r, got)
	}
	return n
})

var genText0 = rapid.OneOf(rapid.Just(""), genName)

// The codecs, as the tables have them.
var (
	tasksCodec = table.Codec[Task]{
		Key:  func(t *Task) string { return t.ID },
		Size: sizeOfTask, Encode: encodeTasks, Decode: decodeTasks, Equal: (*Task).equal,
	}
	grantsCodec = table.Codec[Grant]{
		Key:  func(g *Grant) string { return InstanceKey(g.Instance) },
		Size: sizeOfGrant, Encode: encodeGrants, Decode: decodeGrants, Equal: equalGrants,
	}
	acksCodec = table.Codec[Ack]{
		Key:  func(a *Ack) string { return InstanceKey(a.Instance) },
		Size: sizeOfAck, Encode: encodeAcks, Decode: decodeAcks, Equal: equalAcks,
	}
)

// page returns records with different keys, in order of them.
func page[R any](t *rapid.T, gen *rapid.Generator[R], c table.Codec[R]) []R {
	recs := rapid.SliceOfNDistinct(gen, 0, 8, func(r R) string { return c.Key(&r) }).Draw(t, "records")
	slices.SortFunc(recs, func(a, b R) int { return strings.Compare(c.Key(&a), c.Key(&b)) })
	return recs
}

// roundTrip checks that what is written is read back the same, that its size is
// not underestimated, and that it is the message that it should be.
func roundTrip[R any](t *testing.T, gen *rapid.Generator[R], c table.Codec[R], m Versioned) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		recs := page(rt, gen, c)
		gone := rapid.SliceOfN(genName, 0, 3).Draw(rt, "gone")
		value, err := c.Encode(recs, gone)
		if err != nil {
			rt.Fatal(err)
		}
		got, without, err := c.Decode(value)
		if err != nil || len(got) != len(recs) || !slices.Equal(without, gone) {
			rt.Fatalf("decode: %d records, without %q, %v; want %d, without %q", len(got), without, err, len(recs), gone)
		}
		size := 2 + sumBytes
		for _, key := range gone {
			size += len(key) + 4
		}
		for i := range recs {
			size += c.Size(&recs[i])
			if !c.Equal(&recs[i], &got[i]) {
				rt.Fatalf("record %d: %+v is read back as %+v", i, recs[i], got[i])
			}
		}
		if size < len(value) {
			rt.Fatalf("%d bytes were estimated, %d written", size, len(value))
		}
		if err := proto.Unmarshal(value, m); err != nil || m.GetVersion() != PageVersion {
			rt.Fatalf("as a message: %v", err)
		}
		// Written by somebody else its bytes may be others, and its sum.
		m.ProtoReflect().Set(m.ProtoReflect().Descriptor().Fields().ByName("version"), protoreflect.ValueOfUint32(1))
		again, err := Encode(m)
		if err != nil {
			rt.Fatal(err)
		}
		other, _, err := c.Decode(again)
		if err != nil || !reflect.DeepEqual(got, other) {
			rt.Fatalf("as a message it is %+v, %v; want %+v", other, err, got)
		}
		// Whatever is missing, or another bit, is noticed.
		cut := rapid.IntRange(0, len(value)-1).Draw(rt, "cut")
		if _, _, err := c.Decode(value[:cut]); err == nil {
			rt.Fatalf("%d bytes of %d are read", cut, len(value))
		}
		bit := slices.Clone(value)
		bit[cut] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		if recs, _, err := c.Decode(bit); err == nil && bit[cut] != value[cut] && cut >= 2 {
			rt.Fatalf("another bit in byte %d is read as %v", cut, recs)
		}
	})
}

func TestGrants(t *testing.T) {
	// Not parallel: generators that tests share remember their names without a lock.
	var m storepb.GrantPage
	roundTrip(t, genGrant, grantsCodec, &m)
}

func TestAcks(t *testing.T) {
	// Not parallel: generators that tests share remember their names without a lock.
	var m storepb.AckPage
	roundTrip(t, genAck, acksCodec, &m)
}

func TestTasks(t *testing.T) {
	// Not parallel: generators that tests share remember their names without a lock.
	var m storepb.TaskPage
	roundTrip(t, genTask, tasksCodec, &m)
}

func TestInstanceKey(t *testing.T) {
	// Not parallel: generators that tests share remember their names without a lock.
	rapid.Check(t, func(rt *rapid.T) {
		a, b := genInstance.Draw(rt, "a"), genInstance.Draw(rt, "b")
		if c := strings.Compare(InstanceKey(a), InstanceKey(b)); c < 0 != (a.Compare(b) < 0) || c == 0 != (a == b) {
			rt.Fatalf("keys of %v and %v compare as %d", a, b, c)
		}
	})
}

// TestVersions holds every sort of value to refusing versions that are newer,
// whatever else is in them, and values without one.
func TestVersions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		newest byte
		decode func([]byte) error
	}{
		"leader":  {Version, func(b []byte) error { return Decode(b, &storepb.Leader{}) }},
		"session": {Version, func(b []byte) error { return Decode(b, &storepb.Session{}) }},
		"tasks":   {PageVersion, func(b []byte) error { _, _, err := tasksCodec.Decode(b); return err }},
		"grants":  {PageVersion, func(b []byte) error { _, _, err := grantsCodec.Decode(b); return err }},
		"acks":    {PageVersion, func(b []byte) error { _, _, err := acksCodec.Decode(b); return err }},
	} {
		later := string([]byte{8, c.newest + 1})
		for value, want := range map[string]error{
			"\x08\x01":                 nil,
			later:                      rota.ErrNewerVersion,
			later + "\xff\xff\xff\xff": rota.ErrNewerVersion,
			"\x08\x01" + later:         rota.ErrNewerVersion,
			"\x08\x00":                 ErrMalformed,
			"":                         ErrMalformed,
			"\x12\x00":                 ErrMalformed,
			"hello":                    ErrMalformed,
			"\x08\x01\xff":             ErrMalformed,
		} {
			if err := c.decode([]byte(value)); !errors.Is(err, want) || (want == nil) != (err == nil) {
				t.Errorf("%s: %q: %v, want %v", name, value, err, want)
			}
		}
	}
	if err := Decode([]byte("\x08\x07"), &storepb.Node{}); err == nil || !strings.Contains(err.Error(), "Node") {
		t.Errorf("%v does not name the message", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"grant without task":  second(grantsCodec.Encode([]Grant{grantOf("", 0)}, nil)),
		"zero byte in task":   second(grantsCodec.Encode([]Grant{grantOf("a\x00b", 0)}, nil)),
		"index too great":     second(grantsCodec.Encode([]Grant{grantOf("a", rota.MaxReplicas)}, nil)),
		"negative index":      second(acksCodec.Encode([]Ack{{Ack: ownership.Ack{Instance: rota.Instance{Task: "a", Index: -1}}}}, nil)),
		"task without id":     second(tasksCodec.Encode([]Task{NewTask(rota.Task{}, "")}, nil)),
		"weight no number":    second(tasksCodec.Encode([]Task{NewTask(rota.Task{ID: "a", Weight: math.NaN()}, "")}, nil)),
		"priority no number":  second(tasksCodec.Encode([]Task{NewTask(rota.Task{ID: "a", Priority: math.Inf(1)}, "")}, nil)),
		"resource no number":  second(tasksCodec.Encode([]Task{NewTask(rota.Task{ID: "a", Resources: map[string]float64{"x": math.NaN()}}, "")}, nil)),
		"negative replicas":   second(tasksCodec.Encode([]Task{NewTask(rota.Task{ID: "a", Replicas: -1}, "")}, nil)),
		"affinity of nothing": second(tasksCodec.Encode([]Task{NewTask(rota.Task{ID: "a", Rules: rota.Rules{Affinity: []rota.Affinity{{}}}}, "")}, nil)),
	} {
		var field *rota.FieldError
		if !errors.As(err, &field) {
			t.Errorf("%s: %v, want a field error", name, err)
		}
	}
}

func grantOf(task string, index int) Grant {
	return Grant{Grant: ownership.Grant{Instance: rota.Instance{Task: task, Index: index}}}
}

func second[T any](_ T, err error) error { return err }

// TestText cuts long texts and mends broken ones, and knows them again.
func TestText(t *testing.T) {
	t.Parallel()
	for _, s := range []string{strings.Repeat("x", 5000), "a\xffb", strings.Repeat("é", 2800), strings.Repeat("\x80", 9000)} {
		short := kept(s)
		if len(short) > maxText || short != kept(short) || strings.ToValidUTF8(short, "") != short {
			t.Errorf("%q is kept as %q", s[:3], short)
		}
		a := Ack{Ack: ownership.Ack{Instance: rota.Instance{Task: "t"}, Error: s}, Load: -1}
		value, err := acksCodec.Encode([]Ack{a}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := acksCodec.Decode(value)
		if err != nil || !acksCodec.Equal(&a, &got[0]) {
			t.Errorf("%q is read back as %+v, %v", s[:3], got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	grants, _ := grantsCodec.Encode([]Grant{{Grant: ownership.Grant{Instance: rota.Instance{Task: "a", Index: 3}, Generation: 7, Session: 5, Spec: 9, Reason: "why"}}}, []string{"b"})
	acks, _ := acksCodec.Encode([]Ack{{Ack: ownership.Ack{Instance: rota.Instance{Task: "a"}, State: ownership.Running, Error: "oh"}, Load: 2}}, nil)
	tasks, _ := tasksCodec.Encode([]Task{
		NewTask(rota.Task{ID: "a", Payload: []byte("x"), Resources: map[string]float64{"cpus": 1}}, ""), NewTask(rota.Task{ID: "b"}, "list"),
	}, nil)
	session, _ := Encode(&storepb.Session{Version: Version, Name: "w", Labels: map[string]string{"a": "b"}})
	for _, b := range [][]byte{grants, acks, tasks, session, nil} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again(t, grantsCodec, b)
		again(t, acksCodec, b)
		again(t, tasksCodec, b)
		var s storepb.Session
		_ = Decode(b, &s)
	})
}

// again checks that what can be read can be written and read again.
func again[R any](t *testing.T, c table.Codec[R], b []byte) {
	t.Helper()
	recs, gone, err := c.Decode(b)
	if err != nil {
		return
	}
	value, err := c.Encode(recs, gone)
	if err != nil {
		t.Fatalf("read but not written: %v: %+v", err, recs)
	}
	got, _, err := c.Decode(value)
	if err != nil || len(got) != len(recs) {
		t.Fatalf("written but not read: %v", err)
	}
	for i := range recs {
		if !c.Equal(&recs[i], &got[i]) {
			t.Fatalf("%+v is read back as %+v", recs[i], got[i])
		}
	}
}

func BenchmarkDecodeGrants(b *testing.B) {
	var grants []Grant
	for i := range 200 {
		grants = append(grants, Grant{Grant: ownership.Grant{
			Instance: rota.Instance{Task: fmt.Sprintf("task-%06d", i)}, Generation: 12345, Session: 77, Spec: 1 << 60, Reason: "evens load",
		}})
	}
	value, err := grantsCodec.Encode(grants, nil)
	if err != nil {
		b.Fatal(err)
	}
	value = bytes.Clone(value)
	b.ReportAllocs()
	b.ReportMetric(float64(len(value))/200, "bytes/record")
	for b.Loop() {
		if recs, _, err := grantsCodec.Decode(value); err != nil || len(recs) != 200 {
			b.Fatal(err)
		}
	}
}

// TestSpec holds the digest to what stores may have in them already.
func TestSpec(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		task rota.Task
		want string
	}{
		{rota.Task{ID: "a"}, "task\x00exclusive\x00"},
		{rota.Task{ID: "b", Kind: "feed", Mode: rota.Available, Payload: []byte("p\x00q")}, "feed\x00available\x00p\x00q"},
	} {
		h := fnv.New64a()
		_, _ = h.Write([]byte(c.want))
		r := NewTask(c.task, "anybody")
		if got := Spec(&r); got != h.Sum64() {
			t.Errorf("spec of %+v is %x, want %x", c.task, got, h.Sum64())
		}
	}
}
