package bound

import (
	"encoding/json"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// JSON reads the JSON text b of a message and returns about how many bytes it
// will take when it is decoded. The error is a *rota.FieldError with the list
// that is too long.
func JSON(b []byte, md protoreflect.MessageDescriptor) (cost int, err error) {
	s := text{limits: ours, b: b}
	_, err = s.value(&field{message: md}, 1)
	return len(b) + s.cost, err
}

// text walks through a JSON text. It takes whatever is not JSON for its end.
type text struct {
	*limits
	b    []byte
	i    int
	cost int
}

// unknown is a field that the message does not have. Decoding stops there.
var unknown = &field{name: "JSON", max: maxList, cost: stringCost}

// next skips blanks and returns what follows, or zero at the end.
func (s *text) next() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// value passes over one value of a field; ok is false at the end of what is JSON.
func (s *text) value(f *field, depth int) (ok bool, err error) {
	if depth > 2*maxDepth { // a list in a message is two levels
		return false, tooDeep()
	}
	switch c := s.next(); c {
	case 0:
		return false, nil
	case '{':
		s.i++
		return s.object(f, depth)
	case '[':
		s.i++
		return s.array(f, depth)
	case '"':
		s.cost += f.cost
		_, ok := s.str()
		return ok, nil
	default:
		s.cost += f.cost
		begin := s.i
		for ; s.i < len(s.b); s.i++ {
			switch s.b[s.i] {
			case ',', ']', '}', ' ', '\t', '\n', '\r':
				return s.i > begin, nil
			}
		}
		return true, nil
	}
}

// str passes over a text and returns it with its quotes.
func (s *text) str() (quoted []byte, ok bool) {
	begin := s.i
	for s.i++; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '\\':
			s.i++
		case '"':
			s.i++
			return s.b[begin:s.i], true
		}
	}
	return nil, false
}

func (s *text) array(f *field, depth int) (ok bool, err error) {
	if s.next() == ']' {
		s.i++
		return true, nil
	}
	for n := 1; ; n++ {
		if n > f.max {
			return false, f.over()
		}
		if ok, err := s.value(f, depth+1); !ok {
			return false, err
		}
		switch s.next() {
		case ',':
			s.i++
		case ']':
			s.i++
			return true, nil
		default:
			return false, nil
		}
	}
}

// object passes over a message or a map.
func (s *text) object(f *field, depth int) (ok bool, err error) {
	var p *plan
	switch {
	case f.entries:
	case f.message != nil:
		p = s.plan(f.message)
		s.cost += p.size
	default:
		s.cost += f.cost
	}
	if s.next() == '}' {
		s.i++
		return true, nil
	}
	entry := &field{name: f.name, max: f.max, cost: entryCost, message: f.value}
	for n := 1; ; n++ {
		if n > f.max && p == nil {
			return false, f.over()
		}
		if s.next() != '"' {
			return false, nil
		}
		key, ok := s.str()
		if !ok || s.next() != ':' {
			return false, nil
		}
		s.i++
		inner := unknown
		if p == nil {
			inner = entry
		} else if known := p.byName[plain(key)]; known != nil {
			inner = known
		}
		if ok, err := s.value(inner, depth+1); !ok {
			return false, err
		}
		switch s.next() {
		case ',':
			s.i++
		case '}':
			s.i++
			return true, nil
		default:
			return false, nil
		}
	}
}

// plain is the text within quotes.
func plain(quoted []byte) string {
	for _, c := range quoted {
		if c == '\\' {
			var out string
			_ = json.Unmarshal(quoted, &out) // what is no text names no field
			return out
		}
	}
	return string(quoted[1 : len(quoted)-1])
}
