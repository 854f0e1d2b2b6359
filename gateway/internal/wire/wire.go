// Package wire reads HTTP/1 message heads and chunked bodies from byte slices,
// strictly: whatever two readers could understand differently is refused, so
// that no request can be smuggled past the gateway inside another one.
//
// The gateway's HTTP/1 engine calls it. It is pure: it does no reading itself,
// keeps no reference to what it was given beyond the Request or Response that
// the caller owns, and allocates nothing once those have grown to their size.
// It must never repair a message: it accepts it or says why not.
//
// Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1).
package wire

import (
	"bytes"
	"errors"
)

// ErrIncomplete says that the head has not yet arrived in full: read more and
// parse again from its beginning.
var ErrIncomplete = errors.New("incomplete head")

// Error refuses a message. Status is what to answer if it was a request.
type Error struct {
	Status int
	Reason string
}

func (e *Error) Error() string { return e.Reason }

func bad(reason string) *Error { return &Error{400, reason} }

// Refusals are values made once: refusing must be cheap too.
var (
	errBareLF       = bad("a line ends without carriage return")
	errBareCR       = bad("a carriage return inside a line")
	errStartLine    = bad("malformed request line")
	errMethod       = bad("malformed method")
	errTarget       = bad("malformed request target")
	errVersion      = &Error{505, "HTTP version not supported"}
	errFold         = bad("folded header line")
	errName         = bad("malformed header name")
	errValue        = bad("malformed header value")
	errHosts        = bad("more than one Host header")
	errNoHost       = bad("missing Host header")
	errHost         = bad("malformed Host header")
	errLengths      = bad("more than one Content-Length header")
	errLength       = bad("malformed Content-Length header")
	errBoth         = bad("both Content-Length and Transfer-Encoding")
	errCoding       = &Error{501, "transfer coding not supported"}
	errCodings      = bad("more than one Transfer-Encoding header")
	errCoding10     = bad("Transfer-Encoding in an HTTP/1.0 message")
	errExpect       = &Error{417, "expectation not supported"}
	errTooMany      = &Error{431, "too many header lines"}
	errOptions      = &Error{431, "too many options in Connection"}
	errStatusLine   = bad("malformed status line")
	errChunk        = bad("malformed chunk")
	errTrailer      = bad("malformed trailer")
	errTrailerField = bad("a header that may not be a trailer")
)

// MaxFields is the most header lines of one message.
const MaxFields = 256

// maxOptions is the most options of Connection: each is looked for among all headers.
const maxOptions = 64

// Field is one header line. Name keeps its case; Value has no space around it.
type Field struct {
	Name, Value []byte
	Kind        Kind
	// Drop marks a header that must not be passed on: hop-by-hop, or listed by
	// a Connection header.
	Drop bool
}

// Head is what requests and responses share.
type Head struct {
	Fields []Field
	// Length is the body's Content-Length, or -1.
	Length int64
	// Chunked says that the body is chunked.
	Chunked bool
	// Minor is the minor version: HTTP/1.Minor.
	Minor int
	// Close and KeepAlive are what Connection says.
	Close, KeepAlive bool
	// UpgradeTo is the value of Upgrade if Connection lists it, else nil.
	UpgradeTo []byte
}

// Request is the head of a request.
type Request struct {
	Head
	Method, Target, Host []byte
	// Continue says that the client waits for 100 (Continue).
	Continue bool
	// Trailers says that the client takes trailers (TE: trailers).
	Trailers bool
	scheme   []byte // of a header list
}

// Response is the head of a response.
type Response struct {
	Head
	Status int
	Reason []byte
}

// line cuts one line off b.
func line(b []byte) (line, rest []byte, err error) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, b, ErrIncomplete
	}
	if i == 0 || b[i-1] != '\r' {
		return nil, b, errBareLF
	}
	return b[:i-1], b[i+1:], nil
}

// Parse reads a request head from the beginning of b and returns its length.
// The Request's slices point into b.
func (r *Request) Parse(b []byte) (n int, err error) {
	*r = Request{Head: Head{Fields: r.Fields[:0], Length: -1}}
	start := b
	for len(b) >= 2 && b[0] == '\r' && b[1] == '\n' && len(start)-len(b) < 4 {
		b = b[2:] // RFC 9112, 2.2: an empty line before the request is ignored
	}
	first, b, err := line(b)
	if err != nil {
		return 0, err
	}
	i := bytes.IndexByte(first, ' ')
	if i <= 0 {
		return 0, errStartLine
	}
	r.Method = first[:i]
	first = first[i+1:]
	if i = bytes.IndexByte(first, ' '); i <= 0 {
		return 0, errStartLine
	}
	r.Target = first[:i]
	version := first[i+1:]
	switch {
	case !all(r.Method, token):
		return 0, errMethod
	case !all(r.Target, visible):
		return 0, errTarget
	case string(version) == "HTTP/1.0":
	case len(version) == len("HTTP/1.x") && bytes.HasPrefix(version, []byte("HTTP/1.")) && version[7] >= '1' && version[7] <= '9':
		r.Minor = 1 // who speaks a later one understands this (RFC 9110, 2.5)
	case bytes.HasPrefix(version, []byte("HTTP/")) && bytes.IndexByte(version, ' ') < 0:
		return 0, errVersion
	default:
		return 0, errStartLine
	}
	b, err = r.fields(b, false)
	if err != nil {
		return 0, err
	}
	if r.Minor == 0 {
		r.UpgradeTo = nil // RFC 9110, 7.8
	}
	hosts := 0
	for i := range r.Fields {
		switch f := &r.Fields[i]; f.Kind {
		case Host:
			hosts++
			r.Host = f.Value
		case Expect:
			if !equalFold(f.Value, "100-continue") {
				return 0, errExpect
			}
			r.Continue = r.Minor == 1
		case TE:
			r.Trailers = hasToken(f.Value, "trailers")
		}
	}
	switch {
	case hosts > 1:
		return 0, errHosts
	case hosts == 0 && r.Minor == 1:
		return 0, errNoHost
	case !IsHost(r.Host):
		return 0, errHost
	}
	if r.Chunked && r.Minor == 0 {
		return 0, errCoding10
	}
	if r.Minor == 0 && !r.KeepAlive {
		r.Close = true
	}
	return len(start) - len(b), nil
}

// Parse reads a response head from the beginning of b and returns its length.
func (r *Response) Parse(b []byte) (n int, err error) {
	*r = Response{Head: Head{Fields: r.Fields[:0], Length: -1}}
	start := b
	first, b, err := line(b)
	if err != nil {
		return 0, err
	}
	if len(first) < 12 || !bytes.HasPrefix(first, []byte("HTTP/1.")) || first[8] != ' ' ||
		first[7] < '0' || first[7] > '9' || len(first) > 12 && first[12] != ' ' {
		return 0, errStatusLine
	}
	r.Minor = min(int(first[7]-'0'), 1)
	for _, c := range first[9:12] {
		if c < '0' || c > '9' {
			return 0, errStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 {
		return 0, errStatusLine
	}
	if len(first) > 13 {
		r.Reason = first[13:]
	}
	if !all(r.Reason, text) {
		return 0, errStatusLine
	}
	if b, err = r.fields(b, true); err != nil {
		return 0, err
	}
	if r.Chunked && r.Minor == 0 {
		return 0, errCoding10
	}
	if r.Minor == 0 && !r.KeepAlive {
		r.Close = true
	}
	return len(start) - len(b), nil
}

// fields reads header lines up to and with the empty one. Of an answer, whose end
// nobody but us reads, a length that is said twice, or beside chunks, is no danger:
// chunks go before it, and the connection is not used again (RFC 9112, 6.3).
func (h *Head) fields(b []byte, answer bool) (rest []byte, err error) {
	lengths, codings, listed, again := 0, 0, false, false
	for {
		var l []byte
		if l, b, err = line(b); err != nil {
			return b, err
		}
		if len(l) == 0 {
			break
		}
		if l[0] == ' ' || l[0] == '\t' {
			return b, errFold
		}
		if len(h.Fields) >= MaxFields {
			return b, errTooMany
		}
		colon := bytes.IndexByte(l, ':')
		if colon <= 0 {
			return b, errName
		}
		f := Field{Name: l[:colon], Value: trim(l[colon+1:])}
		if !all(f.Name, token) {
			return b, errName
		}
		if !all(f.Value, text) {
			if bytes.IndexByte(f.Value, '\r') >= 0 {
				return b, errBareCR
			}
			return b, errValue
		}
		f.Kind = kind(f.Name)
		switch f.Kind {
		case ContentLength:
			n, err := lengthOf(f.Value, answer)
			if err != nil {
				return b, err
			}
			if lengths++; lengths > 1 && n != h.Length {
				return b, errLengths
			}
			h.Length = n
			again = again || bytes.IndexByte(f.Value, ',') >= 0
		case TransferEncoding:
			codings++
			if !equalFold(f.Value, "chunked") {
				return b, errCoding
			}
			h.Chunked = true
			f.Drop = true
		case Connection:
			listed = true
			f.Drop = true
		case HopByHop, TE, Upgrade, Alias, CGIProxy:
			f.Drop = true
		}
		h.Fields = append(h.Fields, f)
	}
	switch {
	case lengths > 1 && !answer:
		return b, errLengths
	case codings > 1:
		return b, errCodings
	case lengths > 0 && h.Chunked && !answer:
		return b, errBoth
	case lengths > 0 && h.Chunked:
		h.Length, h.Close = -1, true
	case lengths > 1, again:
		h.Close = true
	}
	if listed {
		err = h.connection()
	}
	return b, err
}

// connection obeys the Connection headers: their options, and the headers that
// they list, which are for this hop only.
func (h *Head) connection() error {
	upgrade, count := false, 0
	for _, c := range h.Fields {
		if c.Kind != Connection {
			continue
		}
		for opt := range options(c.Value) {
			if count++; count > maxOptions {
				return errOptions
			}
			switch {
			case equalFold(opt, "close"):
				h.Close = true
			case equalFold(opt, "keep-alive"):
				h.KeepAlive = true
			case equalFold(opt, "upgrade"):
				upgrade = true
			}
			for j := range h.Fields {
				f := &h.Fields[j]
				// What frames or routes the message is never hop-by-hop, whatever a
				// client lists: dropping it would change the message's meaning.
				if f.Kind == Host || f.Kind == ContentLength {
					continue
				}
				if bytes.EqualFold(f.Name, opt) {
					f.Drop = true
				}
			}
		}
	}
	if upgrade {
		for _, f := range h.Fields {
			// HTTP/2 would be spoken past everybody between its ends.
			if f.Kind == Upgrade && !hasToken(f.Value, "h2c") {
				h.UpgradeTo = f.Value
			}
		}
	}
	return nil
}

// options iterates over the comma-separated options of a header value.
func options(v []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(v) > 0 {
			var opt []byte
			if i := bytes.IndexByte(v, ','); i >= 0 {
				opt, v = v[:i], v[i+1:]
			} else {
				opt, v = v, nil
			}
			if opt = trim(opt); len(opt) > 0 && !yield(opt) {
				return
			}
		}
	}
}

func hasToken(v []byte, tok string) bool {
	for opt := range options(v) {
		if i := bytes.IndexByte(opt, ';'); i >= 0 {
			opt = trim(opt[:i])
		}
		if equalFold(opt, tok) {
			return true
		}
	}
	return false
}

// HasBody says whether a response to a request of that method has a body, by
// RFC 9112, 6.3, rules 1 and 2.
func (r *Response) HasBody(method []byte) bool {
	return r.Status >= 200 && r.Status != 204 && r.Status != 304 && string(method) != "HEAD"
}

// IsName says whether b may be the name of a header.
func IsName(b []byte) bool { return len(b) > 0 && all(b, token) }

// IsValue says whether b may be the value of a header.
func IsValue(b []byte) bool { return all(b, text) && len(trim(b)) == len(b) }

// Idempotent says whether a method may be repeated (RFC 9110, 9.2.2).
func Idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// lengthOf reads the value of a Content-Length, which in an answer may be a list of
// the same number.
func lengthOf(v []byte, answer bool) (int64, error) {
	i := bytes.IndexByte(v, ',')
	if i < 0 || !answer {
		return number(v)
	}
	n, err := number(trim(v[:i]))
	for err == nil && i >= 0 {
		v = v[i+1:]
		one := v
		if i = bytes.IndexByte(v, ','); i >= 0 {
			one = v[:i]
		}
		var again int64
		if again, err = number(trim(one)); err == nil && again != n {
			err = errLengths
		}
	}
	return n, err
}

// number reads a Content-Length: digits only, below 2^62.
func number(v []byte) (int64, error) {
	if len(v) == 0 || len(v) > 18 {
		return -1, errLength
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return -1, errLength
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

func trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v
}

// Byte classes.
const (
	token    uint8 = 1 << iota // RFC 9110, 5.6.2
	text                       // field values: visible, space, tab, obs-text
	visible                    // request targets: visible ASCII
	hostByte                   // Host: reg-name, IP literals, port
)

var classes = func() (t [256]uint8) {
	for c := range 256 {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			t[c] = token | text | visible | hostByte
		case c == ' ' || c == '\t' || c >= 0x80:
			t[c] = text
		case c > ' ' && c < 0x7f:
			t[c] = text | visible
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= token
	}
	for _, c := range "-._~%!$&'()*+,;=" {
		t[c] |= hostByte
	}
	return t
}()

func all(b []byte, class uint8) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return true
}

// equalFold compares with an ASCII word in lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
