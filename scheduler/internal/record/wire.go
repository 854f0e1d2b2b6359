package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// maxText is the most bytes of a text for people that is kept: an error, a reason.
const maxText = 4 << 10

// kept is s as it is kept: valid UTF-8 of at most maxText bytes.
func kept(s string) string {
	s = strings.ToValidUTF8(s, "?") // one byte, so that the text grows no longer
	if len(s) > maxText {
		s = text.Clip(s, maxText-len("..."))
	}
	return s
}

// Fields of a page.
const (
	fieldVersion = 1
	fieldRecords = 2
	fieldGone    = 3
	fieldSum     = 4
)

// sums are of what is in a page: a value that was cut off between two records would
// be one, too.
var sums = crc32.MakeTable(crc32.Castagnoli)

// addSum adds a field to the sum of a page, which begins as the number of a version.
func addSum(sum uint32, num protowire.Number, b []byte) uint32 {
	var head [1 + binary.MaxVarintLen64]byte
	head[0] = byte(num)
	n := 1 + binary.PutUvarint(head[1:], uint64(len(b)))
	return crc32.Update(crc32.Update(sum, sums, head[:n]), sums, b)
}

// appendPage makes a page's value of n records, each written by add, and of the keys
// that are gone, which only patches have.
func appendPage(sizeHint, n int, gone []string, add func(b []byte, i int) ([]byte, error)) ([]byte, error) {
	out := appendVarint(make([]byte, 0, sizeHint+sumBytes), fieldVersion, PageVersion)
	at := len(out)
	sum := uint32(PageVersion)
	out = protowire.AppendFixed32(protowire.AppendTag(out, fieldSum, protowire.Fixed32Type), 0)
	var b []byte
	var err error
	for i := range n {
		if b, err = add(b[:0], i); err != nil {
			return nil, err
		}
		sum = addSum(sum, fieldRecords, b)
		out = protowire.AppendTag(out, fieldRecords, protowire.BytesType)
		out = protowire.AppendBytes(out, b)
	}
	for _, key := range gone {
		sum = addSum(sum, fieldGone, []byte(key))
		out = appendString(out, fieldGone, key)
	}
	binary.LittleEndian.PutUint32(out[at+1:], sum)
	return out, nil
}

// sumBytes is what a page has beside its records.
const sumBytes = 8

// records calls each with the bytes of every record of a page's value, and
// before that count with their number. It answers the keys that are gone.
func records(value []byte, count func(n int), each func(b []byte) error) (gone []string, err error) {
	if err := checkVersion(value, PageVersion); err != nil {
		return nil, err
	}
	n, sum, want, summed := 0, uint32(PageVersion), uint32(0), false
	m := message{rest: value}
	for m.next() {
		switch {
		case m.is(fieldVersion, protowire.VarintType):
			if err = versionError(m.varint, PageVersion); err != nil {
				return nil, err
			}
			summed = summed || m.varint >= PageVersion
		case m.is(fieldRecords, protowire.BytesType):
			n++
			sum = addSum(sum, fieldRecords, m.bytes)
		case m.is(fieldGone, protowire.BytesType):
			sum = addSum(sum, fieldGone, m.bytes)
		case m.is(fieldSum, protowire.Fixed32Type):
			want = uint32(m.varint)
		}
	}
	if m.err != nil {
		return nil, m.err
	}
	if summed && sum != want {
		return nil, fmt.Errorf("%w: its sum is %08x, and should be %08x", ErrMalformed, sum, want)
	}
	count(n)
	for m := (message{rest: value}); m.next(); {
		var err error
		switch {
		case m.is(fieldRecords, protowire.BytesType):
			err = each(m.bytes)
		case m.is(fieldGone, protowire.BytesType):
			gone = append(gone, string(m.bytes))
		}
		if err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// checkVersion looks at the version alone, which comes first, so that a layout
// that is new beyond recognition is known as that.
func checkVersion(value []byte, newest uint64) error {
	num, typ, n := protowire.ConsumeTag(value)
	if n < 0 || num != fieldVersion || typ != protowire.VarintType {
		return fmt.Errorf("%w: it does not begin with a version", ErrMalformed)
	}
	v, n := protowire.ConsumeVarint(value[n:])
	if n < 0 {
		return fmt.Errorf("%w: it does not begin with a version", ErrMalformed)
	}
	return versionError(v, newest)
}

func versionError(v, newest uint64) error {
	switch {
	case v == 0:
		return fmt.Errorf("%w: version 0", ErrMalformed)
	case v > newest:
		return fmt.Errorf("%w: version %d, this one reads up to %d", rota.ErrNewerVersion, v, newest)
	}
	return nil
}

// field is one field of a message as it is on the wire.
type field struct {
	num    protowire.Number
	typ    protowire.Type
	varint uint64 // of a varint, and the bits of a fixed32 or fixed64
	bytes  []byte
}

func (f *field) float() float64 { return math.Float64frombits(f.varint) }
func (f *field) bool() bool     { return f.varint != 0 }

// is says whether f is the field num of type typ. Fields of another type are
// skipped, as protocol buffers do.
func (f *field) is(num protowire.Number, typ protowire.Type) bool {
	return f.num == num && f.typ == typ
}

// message walks the fields of a message:
//
//	for m := (message{rest: b}); m.next(); { ... m.field ... }
//
// err is set when it ended early.
type message struct {
	rest []byte
	field
	err error
}

func (m *message) next() bool {
	if len(m.rest) == 0 {
		return false
	}
	num, typ, n := protowire.ConsumeTag(m.rest)
	if n >= 0 {
		m.rest = m.rest[n:]
		m.field = field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			m.varint, n = protowire.ConsumeVarint(m.rest)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(m.rest)
			m.varint = uint64(v)
		case protowire.Fixed64Type:
			m.varint, n = protowire.ConsumeFixed64(m.rest)
		case protowire.BytesType:
			m.bytes, n = protowire.ConsumeBytes(m.rest)
		default:
			n = protowire.ConsumeFieldValue(num, typ, m.rest)
		}
	}
	if n < 0 {
		m.err = fmt.Errorf("%w: %w", ErrMalformed, protowire.ParseError(n))
		return false
	}
	m.rest = m.rest[n:]
	return true
}

// shared makes strings of fields that mostly say what they said in the record
// before, without a copy of each.
type shared struct{ last string }

func (s *shared) of(b []byte) string {
	if string(b) != s.last {
		s.last = string(b)
	}
	return s.last
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendVarint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendBool(b []byte, num protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendVarint(b, num, 1)
}

func appendFixed(b []byte, num protowire.Number, bits uint64) []byte {
	if bits == 0 {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), bits)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func bits(v float64) uint64 { return math.Float64bits(v) }
