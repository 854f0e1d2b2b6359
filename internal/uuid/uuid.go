// Package uuid makes the ids of jobs and old workers (RFC 9562): version 7, in
// the order of time, and version 5, always the same for one name. Packages api,
// jobscheduler and job use it; it keeps no state.
package uuid

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // version 5 is defined by it; nothing relies on its strength
	"encoding/binary"
	"encoding/hex"
	"time"
)

// New returns a version 7 id: the time in milliseconds, then 74 random bits.
func New(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[6:]) // never fails (crypto/rand)
	return stamped(b, now)
}

// At returns a version 7 id of a time that is always the same for one name.
func At(t time.Time, name string) string {
	h := sha1.New() //nolint:gosec // against accidents, as in Of
	h.Write(namespace[:])
	h.Write([]byte(name))
	var b [16]byte
	copy(b[:], h.Sum(nil))
	return stamped(b, t)
}

func stamped(b [16]byte, t time.Time) string {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(b[:6], ms[2:])
	return format(b, 7)
}

// namespace of the ids that Of makes; random once, the same for ever.
var namespace = [16]byte{0x6f, 0x2c, 0x1b, 0x94, 0x5d, 0x0e, 0x4a, 0x57, 0x9d, 0x21, 0xc8, 0x3e, 0x70, 0xb6, 0x15, 0xaf}

// Of returns the version 5 id of a name.
func Of(name string) string {
	h := sha1.New() //nolint:gosec // see above
	h.Write(namespace[:])
	h.Write([]byte(name))
	var b [16]byte
	copy(b[:], h.Sum(nil))
	return format(b, 5)
}

func format(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], b[0:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:36], b[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// Valid reports whether s is written as an id, of any version, in lower case.
func Valid(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}
