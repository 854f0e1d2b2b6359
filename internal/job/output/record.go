package output

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// Stream says which of its outputs the job wrote to.
type Stream uint8

// The two outputs, numbered as the file descriptors are.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

func (s Stream) String() string {
	switch s {
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	}
	return "end"
}

// end is the stream of the record that closes a log in order.
const end Stream = 0

const (
	headerSize = 25
	// maxRecord is the most data of one record, and so of one Chunk.
	maxRecord = 64 << 10
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errTorn    = errors.New("output: torn record")
)

// header is the fixed part of a record.
type header struct {
	length int
	offset int64
	micros int64
	stream Stream
}

func (h header) time() time.Time { return time.UnixMicro(h.micros) }

// appendRecord appends the record of data to b.
func appendRecord(b []byte, h header, data []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.offset))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.micros))
	b = append(b, byte(h.stream))
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

// parseRecord reads the record at the start of b. It is errTorn if b does not
// begin with a whole and sound one; size is then how many bytes it would take
// to tell, 0 if no number of bytes would help.
func parseRecord(b []byte) (h header, data []byte, size int, err error) {
	if len(b) < headerSize {
		return header{}, nil, headerSize, errTorn
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > maxRecord {
		return header{}, nil, 0, errTorn
	}
	size = headerSize + int(n)
	if len(b) < size {
		return header{}, nil, size, errTorn
	}
	if crc32.Checksum(b[4:size], castagnoli) != binary.LittleEndian.Uint32(b) {
		return header{}, nil, 0, errTorn
	}
	h = header{
		length: int(n),
		offset: int64(binary.LittleEndian.Uint64(b[8:])),
		micros: int64(binary.LittleEndian.Uint64(b[16:])),
		stream: Stream(b[24]),
	}
	if h.stream > Stderr || h.offset < 0 {
		return header{}, nil, 0, errTorn
	}
	return h, b[headerSize:size], size, nil
}
