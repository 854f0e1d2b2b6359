package wire

// mayTrail says whether a header may come after the body. What frames or routes
// the message, says who sends it, asks under conditions or tells how to read the
// body must not come when all of that is decided (RFC 9110, 6.5.1).
func mayTrail(k Kind, name []byte) bool {
	switch k {
	case Other:
	case TraceParent, TraceState, ContentType, RequestID:
		return true
	default:
		return false
	}
	var lower [32]byte
	if len(name) > len(lower) {
		return true
	}
	for i, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c == '_':
			c = '-'
		}
		lower[i] = c
	}
	return !notInTrailers[string(lower[:len(name)])]
}

// notInTrailers are the headers of kind Other that may not come late.
var notInTrailers = map[string]bool{
	"authorization": true, "authentication-info": true, "www-authenticate": true, "proxy-authentication-info": true,
	"set-cookie": true, "origin": true, "referer": true, "x-api-key": true, "range": true, "content-range": true,
	"content-encoding": true, "content-location": true, "cache-control": true, "pragma": true,
	"if-match": true, "if-none-match": true, "if-modified-since": true, "if-unmodified-since": true, "if-range": true,
	"accept": true, "accept-encoding": true, "accept-language": true, "age": true, "expires": true, "location": true,
	"retry-after": true, "vary": true, "warning": true, "strict-transport-security": true, "alt-svc": true,
	"x-http-method-override": true, "x-method-override": true,
}
