package h2

import "strconv"

// AppendStatus appends the :status of an answer, which must come first.
func AppendStatus(b []byte, status int) []byte {
	switch status {
	case 200:
		return append(b, 0x80|8)
	case 204:
		return append(b, 0x80|9)
	case 206:
		return append(b, 0x80|10)
	case 304:
		return append(b, 0x80|11)
	case 400:
		return append(b, 0x80|12)
	case 404:
		return append(b, 0x80|13)
	case 500:
		return append(b, 0x80|14)
	}
	b = append(b, 8, 3) // the name by its index, a value of three bytes
	return strconv.AppendInt(b, int64(status), 10)
}

// AppendField appends one header as a literal that nobody indexes. The name is
// written in lower case, as the protocol wants it.
func AppendField(b, name, value []byte) []byte {
	var low [32]byte
	index := 0
	if len(name) <= len(low) {
		for i, c := range name {
			low[i] = lower(c)
		}
		index = staticName(low[:len(name)])
	}
	if index > 0 {
		first := byte(0) // without indexing
		if index == staticSetCookie {
			first = 0x10 // never indexed
		}
		b = appendInt(b, first, 4, index)
	} else {
		b = append(b, 0)
		b = appendInt(b, 0, 7, len(name))
		for _, c := range name {
			b = append(b, lower(c))
		}
	}
	b = appendInt(b, 0, 7, len(value))
	return append(b, value...)
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// appendInt appends n with a prefix of so many bits (RFC 7541, 5.1).
func appendInt(b []byte, first byte, bits uint, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 128; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

const (
	staticContentLength = 28
	staticSetCookie     = 55
)

// staticName is where the static table has a name that answers use (RFC 7541,
// appendix A), 0 if it has not.
func staticName(name []byte) int {
	switch string(name) {
	case "accept-ranges":
		return 18
	case "age":
		return 21
	case "access-control-allow-origin":
		return 20
	case "allow":
		return 22
	case "cache-control":
		return 24
	case "content-disposition":
		return 25
	case "content-encoding":
		return 26
	case "content-language":
		return 27
	case "content-length":
		return staticContentLength
	case "content-location":
		return 29
	case "content-range":
		return 30
	case "content-type":
		return 31
	case "date":
		return 33
	case "etag":
		return 34
	case "expires":
		return 36
	case "last-modified":
		return 44
	case "link":
		return 45
	case "location":
		return 46
	case "retry-after":
		return 53
	case "server":
		return 54
	case "set-cookie":
		return staticSetCookie
	case "strict-transport-security":
		return 56
	case "vary":
		return 59
	case "via":
		return 60
	case "www-authenticate":
		return 61
	}
	return 0
}

// AppendLength appends a Content-Length.
func AppendLength(b []byte, n int64) []byte {
	b = appendInt(b, 0, 4, staticContentLength)
	at := len(b)
	b = append(b, 0) // its length: at most 19 digits
	b = strconv.AppendInt(b, n, 10)
	b[at] = byte(len(b) - at - 1)
	return b
}
