// Package bound holds the messages of the API to limits before they are decoded:
// the lengths of lists, the depth, and the memory that the decoded message will
// take, so that nobody is made to hold much for a few bytes. An empty task takes
// two bytes on the wire and some hundred in memory.
//
// Servers call Proto or JSON with what they received and Codec to receive it.
// The package reads bytes and descriptors; it never decodes, keeps or decides
// anything, and it is silent about what is not well formed: whoever decodes
// stops there, and what comes before has been counted.
package bound

import (
	"fmt"
	"reflect"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
)

// Sizes in bytes.
const (
	// MaxMessage is the most of one message to a scheduler over gRPC.
	MaxMessage = 4 << 20
	// MaxAnswer is the most of one message from a scheduler, and of one to it with a
	// certificate of the cluster: a program says all its tasks in one.
	MaxAnswer = 64 << 20
	// MaxBody is the most of the body of a request over HTTP, MaxListBody the
	// most where the request has a long list.
	MaxBody     = MaxMessage
	MaxListBody = 16 << 20
)

// Numbers.
const (
	// maxDepth is how many messages may be within each other.
	maxDepth = 32
	// maxList is the most entries of a list or map that Lists does not name.
	maxList = 1000
)

// Lists are the most entries of the lists and maps that may have more than
// maxList, in one message.
var Lists = map[protoreflect.FullName]int{
	"rota.v1.ApplyTasksRequest.tasks":   100_000,
	"rota.v1.DeleteTasksRequest.ids":    100_000,
	"rota.v1.GetPlanRequest.tasks":      100_000,
	"rota.v1.GetPlanRequest.without":    10_000,
	"rota.v1.GetStoppableRequest.names": 10_000,
	"rota.v1.JobDefinition.argv":        job.MaxArgs,

	"rota.v1.ProgramChange.set":    100_000,
	"rota.v1.ProgramChange.delete": 100_000,
	"rota.v1.ProgramReport.tasks":  100_000,
	"rota.v1.ProgramReport.events": 10_000,

	"rota.v1.Hello.held":    1_000_000,
	"rota.v1.Acks.acks":     1_000_000,
	"rota.v1.Load.items":    1_000_000,
	"rota.v1.JobHello.held": 100_000,
}

// Body is the most bytes that the body of a request of this type may have.
func Body(md protoreflect.MessageDescriptor) int {
	for i := range md.Fields().Len() {
		if Lists[md.Fields().Get(i).FullName()] > maxList {
			return MaxListBody
		}
	}
	return MaxBody
}

// What the parts of a decoded message take beside their bytes. A list grows by
// doubling, so that what it has is counted twice.
const (
	scalarCost  = 2 * 8
	stringCost  = 2 * 16
	bytesCost   = 2 * 24
	entryCost   = 2 * 64 // of a map
	messageCost = 2*8 + 16
	unknownCost = 256 // of a message of no known Go type
)

// plan is what there is to know of a message type.
type plan struct {
	size   int
	byNum  map[protowire.Number]*field
	byName map[string]*field
}

type field struct {
	name    string
	many    bool // to be counted: a list, a map or a message
	entries bool // a map
	max     int
	cost    int // of one value
	packed  bool
	message protoreflect.MessageDescriptor // of a value, or of the entry of a map; nil if it is none
	value   protoreflect.MessageDescriptor // of the value of a map; nil if it is none
}

// limits knows the plans of all message types that were asked for.
type limits struct {
	list  int                           // of a list that is not in lists
	lists map[protoreflect.FullName]int // longer ones
	plans sync.Map                      // protoreflect.FullName → *plan
}

var ours = &limits{list: maxList, lists: Lists}

func (l *limits) plan(md protoreflect.MessageDescriptor) *plan {
	if p, ok := l.plans.Load(md.FullName()); ok {
		return p.(*plan) //nolint:forcetypeassert // nothing else is in it
	}
	p := &plan{size: unknownCost, byNum: map[protowire.Number]*field{}, byName: map[string]*field{}}
	if mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName()); err == nil {
		p.size = messageCost + int(reflect.TypeOf(mt.Zero().Interface()).Elem().Size())
	}
	if md.IsMapEntry() {
		p.size = entryCost
	}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f := &field{name: string(fd.Name()), many: fd.IsList() || fd.IsMap(), entries: fd.IsMap(), max: l.list, message: fd.Message()}
		if most, ok := l.lists[fd.FullName()]; ok {
			f.max = most
		}
		switch fd.Kind() { //nolint:exhaustive // the rest are numbers
		case protoreflect.StringKind:
			f.cost = stringCost
		case protoreflect.BytesKind:
			f.cost = bytesCost
		case protoreflect.MessageKind, protoreflect.GroupKind:
		default:
			f.cost, f.packed = scalarCost, fd.IsList()
		}
		if f.message != nil && !f.many {
			f.many, f.max = true, 1 // else it could be said in parts, which are put together
		}
		if fd.IsMap() {
			f.value = fd.MapValue().Message()
		}
		p.byNum[fd.Number()] = f
		p.byName[fd.TextName()], p.byName[fd.JSONName()] = f, f
	}
	l.plans.Store(md.FullName(), p)
	return p
}

// over is the error of a list that is too long.
func (f *field) over() error {
	return &rota.FieldError{Field: f.name, Value: f.max + 1, Want: fmt.Sprintf("at most %d entries in one message", f.max)}
}

func tooDeep() error {
	return &rota.FieldError{Field: "message", Value: maxDepth + 1, Want: fmt.Sprintf("at most %d messages within each other", maxDepth)}
}

// Proto reads the encoded message b and returns about how many bytes it will
// take when it is decoded. The error is a *rota.FieldError with the list that is
// too long.
func Proto(b []byte, md protoreflect.MessageDescriptor) (cost int, err error) {
	w := wire{limits: ours}
	_, err = w.message(b, md, 1)
	return len(b) + w.cost, err
}

type wire struct {
	*limits
	cost int
}

// message counts what is in a message; ok is false where it is not well formed.
func (w *wire) message(b []byte, md protoreflect.MessageDescriptor, depth int) (ok bool, err error) {
	if depth > maxDepth {
		return false, tooDeep()
	}
	p := w.plan(md)
	w.cost += p.size
	var counts map[*field]int
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false, nil
		}
		b = b[n:]
		f := p.byNum[num]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return false, nil
		}
		value := b[:n]
		b = b[n:]
		if f == nil {
			w.cost += n
			continue
		}
		many := 1
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
			if f.packed {
				many = len(value) // no number takes less than a byte
			}
		}
		w.cost += many * f.cost
		if f.many {
			if counts == nil {
				counts = map[*field]int{}
			}
			if counts[f] += many; counts[f] > f.max {
				return false, f.over()
			}
		}
		if f.message != nil && typ == protowire.BytesType {
			if ok, err := w.message(value, f.message, depth+1); !ok {
				return false, err
			}
		}
	}
	return true, nil
}
