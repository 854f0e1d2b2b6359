package wire

import (
	"bytes"
	"errors"
)

// Chunks reads a chunked body (RFC 9112, 7.1) piece by piece. The zero value is
// at the beginning of a body.
type Chunks struct {
	left  int64 // of the present chunk
	state chunkState
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd
	chunkTrailer
	chunkDone
)

// maxChunkLine bounds a chunk's size line with its extensions; maxTrailer all trailers.
const (
	maxChunkLine = 4096
	maxTrailer   = 16 << 10
)

// Done says that the body, with its trailers, is at its end.
func (c *Chunks) Done() bool { return c.state == chunkDone }

// Next reads from the beginning of b. It returns how many bytes of b it has
// used and, of those, the body's data, if any: call again with what is left.
// With n == 0 and no error more has to be read; trailers, if there are any,
// must fit into b whole. At the end trailer holds the trailer lines, each with
// its line end, and Done is true.
func (c *Chunks) Next(b []byte) (data, trailer []byte, n int, err error) {
	for {
		rest := b[n:]
		switch c.state {
		case chunkSize:
			l, after, err := line(rest)
			if errors.Is(err, ErrIncomplete) {
				if len(rest) > maxChunkLine {
					return nil, nil, n, errChunk
				}
				return nil, nil, n, nil
			}
			if err != nil {
				return nil, nil, n, err
			}
			if c.left, err = hexSize(l); err != nil {
				return nil, nil, n, err
			}
			n += len(rest) - len(after)
			c.state = chunkData
			if c.left == 0 {
				c.state = chunkTrailer
			}
		case chunkData:
			if len(rest) == 0 {
				return nil, nil, n, nil
			}
			data = rest[:min(int64(len(rest)), c.left)]
			n += len(data)
			if c.left -= int64(len(data)); c.left == 0 {
				c.state = chunkEnd
			}
			return data, nil, n, nil
		case chunkEnd:
			if len(rest) < 2 {
				return nil, nil, n, nil
			}
			if rest[0] != '\r' || rest[1] != '\n' {
				return nil, nil, n, errChunk
			}
			n += 2
			c.state = chunkSize
		case chunkTrailer:
			size, err := trailerSize(rest)
			if errors.Is(err, ErrIncomplete) {
				if len(rest) > maxTrailer {
					return nil, nil, n, errTrailer
				}
				return nil, nil, n, nil
			}
			if err != nil {
				return nil, nil, n, err
			}
			c.state = chunkDone
			return nil, rest[:size-2], n + size, nil
		case chunkDone:
			return nil, nil, n, nil
		}
	}
}

// hexSize reads a chunk's size; extensions are allowed and ignored.
func hexSize(l []byte) (int64, error) {
	ext := bytes.IndexByte(l, ';')
	size := l
	if ext >= 0 {
		size = trim(l[:ext])
		if !all(l[ext:], text) {
			return 0, errChunk
		}
	}
	if len(size) == 0 || len(size) > 15 {
		return 0, errChunk
	}
	var n int64
	for _, c := range size {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int64(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | int64(c-'A'+10)
		default:
			return 0, errChunk
		}
	}
	return n, nil
}

var crlf = []byte("\r\n")

// trailerSize checks the trailers at the beginning of b and returns their size
// with the empty line at their end.
func trailerSize(b []byte) (int, error) {
	if !hasEnd(b) && !bytes.HasPrefix(b, crlf) && !bytes.HasPrefix(b, crlf[1:]) {
		return 0, ErrIncomplete // to find that out line by line, byte after byte, costs much
	}
	start := b
	for count := 0; ; count++ {
		l, rest, err := line(b)
		if err != nil {
			return 0, err
		}
		b = rest
		if len(l) == 0 {
			return len(start) - len(b), nil
		}
		colon := bytes.IndexByte(l, ':')
		if colon <= 0 || count >= MaxFields || !all(l[:colon], token) || !all(l[colon+1:], text) {
			return 0, errTrailer
		}
		if !mayTrail(kind(l[:colon]), l[:colon]) {
			return 0, errTrailerField
		}
	}
}

// AppendChunk appends data as one chunk. Empty data appends nothing, because an
// empty chunk would end the body.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = appendChunkSize(dst, len(data))
	dst = append(dst, data...)
	return append(dst, '\r', '\n')
}

// appendChunkSize appends the line that begins a chunk of n bytes.
func appendChunkSize(dst []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 0
	for n>>shift >= 16 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return append(dst, '\r', '\n')
}

// AppendLast appends the chunk that ends a body, with its trailers as lines.
func AppendLast(dst, trailer []byte) []byte {
	dst = append(dst, "0\r\n"...)
	dst = append(dst, trailer...)
	return append(dst, '\r', '\n')
}
