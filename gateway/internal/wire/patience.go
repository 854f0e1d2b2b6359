package wire

import "bytes"

// Patience says when to parse a head again that was incomplete. Whoever sends it
// byte by byte would otherwise have all of it read for each. The zero value is for
// the next head.
type Patience struct{ seen, next int }

// eager is how much of a head is parsed at each byte.
const eager = 2 << 10

// Over says whether it is worth parsing b: its end may have come, or it has grown by
// a part since it was parsed last.
func (p *Patience) Over(b []byte) bool {
	fresh := b[max(p.seen-len("\r\n\r"), 0):]
	p.seen = len(b)
	if len(b) > eager && len(b) < p.next && !hasEnd(fresh) {
		return false
	}
	p.next = len(b) + len(b)/4
	return true
}

// hasEnd says whether there is an empty line in b, however lines end.
func hasEnd(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return false
		}
		if b = b[i+1:]; len(b) > 0 && b[0] == '\n' || len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
			return true
		}
	}
}
