// Package headers changes the headers of messages by rules of an operator: some are
// removed, some are set.
//
// The gateway compiles the rules of functions and routes here and applies them to each
// call. It must never touch what frames a message, what belongs to one hop, or what the
// gateway writes itself: such a rule is refused.
package headers

import (
	"errors"
	"maps"
	"slices"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// Rules are what is done to the headers of one direction. Nil does nothing.
type Rules struct {
	set    []wire.Field
	remove []string // those that are set, too
}

// Why a rule is refused.
var (
	ErrName  = errors.New("the name of a header")
	ErrFixed = errors.New("another header: this one frames the message, belongs to one hop, or is written by the gateway")
	ErrValue = errors.New("a value of visible characters, without space at its ends")
	ErrTwice = errors.New("a header that is not set or removed already")
)

// New makes rules. answer says that they are for answers, not requests. If one is wrong,
// name is the header's, and the error says what was expected.
func New(set map[string]string, remove []string, answer bool) (r *Rules, name string, err error) {
	if len(set)+len(remove) == 0 {
		return nil, "", nil
	}
	r = &Rules{}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		value := set[name]
		if err := r.add(name, answer); err != nil {
			return nil, name, err
		}
		if !wire.IsValue([]byte(value)) {
			return nil, name, ErrValue
		}
		r.set = append(r.set, wire.NewField([]byte(name), []byte(value)))
	}
	for _, name := range remove {
		if err := r.add(name, answer); err != nil {
			return nil, name, err
		}
	}
	return r, "", nil
}

// add notes that a header is replaced or removed.
func (r *Rules) add(name string, answer bool) error {
	switch {
	case !wire.IsName([]byte(name)):
		return ErrName
	case fixed([]byte(name), answer):
		return ErrFixed
	case r.has([]byte(name)):
		return ErrTwice
	}
	r.remove = append(r.remove, name)
	return nil
}

func (r *Rules) has(name []byte) bool {
	return slices.ContainsFunc(r.remove, func(n string) bool { return Same(name, n) })
}

// fixed says whether a header is not an operator's to change.
func fixed(name []byte, answer bool) bool {
	switch wire.NewField(name, nil).Kind {
	case wire.Host, wire.Connection, wire.ContentLength, wire.TransferEncoding, wire.Expect, wire.Upgrade, wire.TE, wire.Trailer, wire.HopByHop,
		wire.Via, wire.MaxForwards, wire.Alias, wire.CGIProxy:
		return true
	case wire.Forwarded, wire.XForwardedFor, wire.XForwardedOther, wire.ForwardedPrefix, wire.Generation:
		return !answer
	case wire.Date:
		return answer
	}
	return false
}

// Apply changes the fields and returns them.
func (r *Rules) Apply(fields []wire.Field) []wire.Field {
	if r == nil {
		return fields
	}
	for i := range fields {
		if f := &fields[i]; !f.Drop && r.has(f.Name) {
			f.Drop = true
		}
	}
	return append(fields, r.set...)
}

// Same says whether two names are one for whoever takes '_' for '-', as CGI and WSGI do.
func Same(name []byte, as string) bool {
	if len(name) != len(as) {
		return false
	}
	for i, c := range name {
		if plain(c) != plain(as[i]) {
			return false
		}
	}
	return true
}

func plain(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return '-'
	}
	return c
}
