package local

import "encoding/binary"

// littleEndian is the machine's order of bytes, in which the kernel writes
// addresses.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1
