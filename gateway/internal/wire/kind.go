package wire

import "bytes"

// Kind tells the headers apart that a proxy must know.
type Kind uint8

// Kinds of header. Everything else is Other.
const (
	Other Kind = iota
	Host
	Connection
	ContentLength
	TransferEncoding
	Expect
	Upgrade
	TE
	Trailer
	HopByHop // Keep-Alive, Proxy-Connection, Proxy-Authenticate, Proxy-Authorization
	Forwarded
	XForwardedFor
	XForwardedOther // X-Forwarded-Host, -Proto, -Port, -Server, X-Real-Ip
	ForwardedPrefix // X-Forwarded-Prefix
	// XForwardedUnknown is any other name that begins with X-Forwarded-, and the
	// others by which proxies tell of the client and of what it asked for; see
	// spokenForOthers.
	XForwardedUnknown
	// CGIProxy is Proxy, which CGI hands to programs as HTTP_PROXY: they would send
	// their own requests there. It is never passed on.
	CGIProxy
	TraceParent
	TraceState
	IdempotencyKey
	ContentType
	Cookie
	Generation // Rota-Generation
	RequestID  // X-Request-Id
	Via
	Date
	MaxForwards
	Authorization
	Origin
	FetchSite // Sec-Fetch-Site
	// Alias is a name that some servers cannot tell from one of the above, because
	// they take '_' for '-'. It is never passed on.
	Alias
)

// kind knows a header by its name.
func kind(name []byte) Kind {
	if bytes.IndexByte(name, '_') >= 0 {
		return aliased(name)
	}
	if len(name) > len(forwardedPrefix) && name[0]|0x20 == 'x' && equalFold(name[:len(forwardedPrefix)], forwardedPrefix) {
		return forwardedKind(name)
	}
	if k := known(name); k != Other {
		return k
	}
	if speaksForOthers(name) {
		return XForwardedUnknown
	}
	return Other
}

// known knows the headers that have a kind of their own.
func known(name []byte) Kind {
	switch len(name) {
	case 2:
		return pick(name, "te", TE)
	case 3:
		return pick(name, "via", Via)
	case 4:
		if name[0]|0x20 == 'd' {
			return pick(name, "date", Date)
		}
		return pick(name, "host", Host)
	case 5:
		return pick(name, "proxy", CGIProxy)
	case 6:
		switch name[0] | 0x20 {
		case 'c':
			return pick(name, "cookie", Cookie)
		case 'o':
			return pick(name, "origin", Origin)
		}
		return pick(name, "expect", Expect)
	case 7:
		if name[0]|0x20 == 't' {
			return pick(name, "trailer", Trailer)
		}
		return pick(name, "upgrade", Upgrade)
	case 9:
		if name[0]|0x20 == 'x' {
			return pick(name, "x-real-ip", XForwardedOther)
		}
		return pick(name, "forwarded", Forwarded)
	case 10:
		switch name[0] | 0x20 {
		case 'k':
			return pick(name, "keep-alive", HopByHop)
		case 't':
			return pick(name, "tracestate", TraceState)
		}
		return pick(name, "connection", Connection)
	case 11:
		return pick(name, "traceparent", TraceParent)
	case 12:
		switch name[0] | 0x20 {
		case 'x':
			return pick(name, "x-request-id", RequestID)
		case 'm':
			return pick(name, "max-forwards", MaxForwards)
		}
		return pick(name, "content-type", ContentType)
	case 13:
		return pick(name, "authorization", Authorization)
	case 14:
		if name[0]|0x20 == 's' {
			return pick(name, "sec-fetch-site", FetchSite)
		}
		return pick(name, "content-length", ContentLength)
	case 15:
		switch name[0] | 0x20 {
		case 'i':
			return pick(name, "idempotency-key", IdempotencyKey)
		case 'r':
			return pick(name, "rota-generation", Generation)
		}
	case 16:
		return pick(name, "proxy-connection", HopByHop)
	case 17:
		return pick(name, "transfer-encoding", TransferEncoding)
	case 18:
		return pick(name, "proxy-authenticate", HopByHop)
	case 19:
		return pick(name, "proxy-authorization", HopByHop)
	}
	return Other
}

// aliased is the kind of a name with an underscore: Alias if it is one of the
// headers that a proxy must know with '_' for '-'. CGI and WSGI read both as one.
func aliased(name []byte) Kind {
	var dashed [32]byte
	if len(name) > len(dashed) {
		return Other
	}
	for i, c := range name {
		if c == '_' {
			c = '-'
		}
		dashed[i] = c
	}
	if k := kind(dashed[:len(name)]); k == Other {
		return Other
	}
	return Alias
}

// forwardedPrefix begins the names by which proxies tell of the client.
const forwardedPrefix = "x-forwarded-"

// forwardedKind knows a name that begins with it.
func forwardedKind(name []byte) Kind {
	switch rest := name[len(forwardedPrefix):]; {
	case equalFold(rest, "for"):
		return XForwardedFor
	case equalFold(rest, "host"), equalFold(rest, "port"), equalFold(rest, "proto"), equalFold(rest, "server"):
		return XForwardedOther
	case equalFold(rest, "prefix"):
		return ForwardedPrefix
	}
	return XForwardedUnknown
}

func pick(name []byte, lower string, k Kind) Kind {
	if equalFold(name, lower) {
		return k
	}
	return Other
}
