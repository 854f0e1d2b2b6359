package wire

import "bytes"

// Refusals of header lists, as HTTP/2 has them (RFC 9113, 8.2 and 8.3).
var (
	errPseudo     = bad("malformed pseudo-header")
	errPseudoLate = bad("a pseudo-header after a header")
	errUpperCase  = bad("a header name that is not in lower case")
	errSpace      = bad("space around a header value")
	errHopByHop   = bad("a header that belongs to HTTP/1 connections")
	errAuthority  = bad("two different hosts")
	errListed     = bad("a request without method, scheme or path")
)

// Begin makes a Request of a header list, as HTTP/2 has it, instead of Parse: Add
// takes its headers one by one, and End checks the whole. The slices given to Add
// are kept.
func (r *Request) Begin() {
	*r = Request{Head: Head{Fields: r.Fields[:0], Length: -1, Minor: 1}}
}

// Add takes the next header of the list.
func (r *Request) Add(name, value []byte) error {
	if len(name) > 0 && name[0] == ':' {
		return r.pseudo(name, value)
	}
	k, err := listed(name, value)
	if err != nil {
		return err
	}
	if len(r.Fields) >= MaxFields {
		return errTooMany
	}
	f := Field{Name: name, Value: value, Kind: k}
	switch k {
	case Connection, TransferEncoding, Upgrade:
		return errHopByHop
	case HopByHop:
		if c := name[0]; c == 'k' || len(name) == len("proxy-connection") {
			return errHopByHop
		}
		f.Drop = true
	case Alias, CGIProxy:
		f.Drop = true
	case TE:
		if !equalFold(value, "trailers") {
			return errHopByHop
		}
		r.Trailers, f.Drop = true, true
	case ContentLength:
		if r.Length >= 0 {
			return errLengths
		}
		if r.Length, err = number(value); err != nil {
			return err
		}
	case Host:
		if r.Host != nil && !bytes.Equal(r.Host, value) {
			return errAuthority
		}
		r.Host = value
	case Expect:
		if r.Continue = equalFold(value, "100-continue"); !r.Continue {
			return errExpect
		}
	}
	r.Fields = append(r.Fields, f)
	return nil
}

func (r *Request) pseudo(name, value []byte) error {
	if len(r.Fields) > 0 {
		return errPseudoLate
	}
	switch string(name) {
	case ":method":
		if r.Method != nil || len(value) == 0 || !all(value, token) {
			return errPseudo
		}
		r.Method = value
	case ":path":
		if r.Target != nil || len(value) == 0 || !all(value, visible) {
			return errPseudo
		}
		r.Target = value
	case ":scheme":
		if r.scheme != nil || !equalFold(value, "http") && !equalFold(value, "https") {
			return errPseudo
		}
		r.scheme = value
	case ":authority":
		if r.Host != nil {
			return errPseudo
		}
		r.Host = value
	default:
		return errPseudo
	}
	return nil
}

// End checks the list as a whole.
func (r *Request) End() error {
	switch {
	case r.Method == nil:
		return errListed
	case string(r.Method) == "CONNECT":
		if r.Target != nil || r.scheme != nil || len(r.Host) == 0 {
			return errListed
		}
		r.Target = r.Host
	case r.Target == nil || r.scheme == nil:
		return errListed
	case r.Target[0] != '/' && (string(r.Target) != "*" || string(r.Method) != "OPTIONS"):
		return errTarget
	}
	if len(r.Host) == 0 {
		return errNoHost
	}
	if !IsHost(r.Host) {
		return errHost
	}
	r.joinCookies()
	return nil
}

// joinCookies puts the crumbs of a cookie together, which HTTP/2 may have taken
// apart and HTTP/1 must not see (RFC 9113, 8.2.3).
func (r *Request) joinCookies() {
	var first *Field
	var whole []byte
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case f.Kind != Cookie:
		case first == nil:
			first = f
		default:
			if whole == nil {
				whole = append(make([]byte, 0, len(first.Value)+len("; ")+len(f.Value)), first.Value...)
			}
			if len(whole) > 0 && len(f.Value) > 0 {
				whole = append(whole, "; "...)
			}
			whole = append(whole, f.Value...)
			f.Drop = true
		}
	}
	if whole != nil {
		first.Value = whole
	}
}

// listed checks one header of a list and tells its kind.
func listed(name, value []byte) (Kind, error) {
	if len(name) == 0 || !all(name, token) {
		return 0, errName
	}
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			return 0, errUpperCase
		}
	}
	if !all(value, text) {
		return 0, errValue
	}
	if len(trim(value)) != len(value) {
		return 0, errSpace
	}
	return kind(name), nil
}

// AppendTrailer appends one header of a list of trailers as a line.
func AppendTrailer(dst, name, value []byte) ([]byte, error) {
	if len(name) > 0 && name[0] == ':' {
		return dst, errPseudo
	}
	k, err := listed(name, value)
	switch {
	case err != nil:
		return dst, err
	case !mayTrail(k, name):
		return dst, errTrailerField
	}
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, '\r', '\n'), nil
}

// Lines iterates over lines of headers, as trailers are kept.
func Lines(lines []byte) func(yield func(name, value []byte) bool) {
	return func(yield func(name, value []byte) bool) {
		for len(lines) > 0 {
			l, rest, err := line(lines)
			if err != nil {
				return
			}
			lines = rest
			name, value, _ := bytes.Cut(l, []byte{':'})
			if !yield(name, trim(value)) {
				return
			}
		}
	}
}

// NewField is a header of an answer that did not come as HTTP/1: Drop is set for
// those that are for one hop.
func NewField(name, value []byte) Field {
	f := Field{Name: name, Value: value, Kind: kind(name)}
	switch f.Kind {
	case TransferEncoding, Connection, HopByHop, TE, Upgrade, Alias, CGIProxy:
		f.Drop = true
	}
	return f
}

// Take adds the headers of a request that net/http has read and found well
// formed. Host, and what frames the body, are the caller's.
func (r *Request) Take(header map[string][]string) error {
	for name, values := range header {
		for _, v := range values {
			f := NewField([]byte(name), []byte(v))
			switch f.Kind {
			case Host, ContentLength:
				continue
			case Expect:
				r.Continue = equalFold(f.Value, "100-continue")
			case TE:
				r.Trailers = r.Trailers || hasToken(f.Value, "trailers")
			}
			r.Fields = append(r.Fields, f)
		}
	}
	return r.connection()
}
