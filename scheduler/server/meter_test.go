package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/http2"
)

// some writes frames of all sorts.
func some(t *testing.T, r *rand.Rand) []byte {
	t.Helper()
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	for range 30 {
		stream, last := uint32(1+2*r.IntN(5)), r.IntN(2) == 0
		data := make([]byte, r.IntN(300))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		var err error
		switch r.IntN(5) {
		case 0:
			err = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		case 1:
			err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: data, EndHeaders: true, EndStream: last, PadLength: byte(r.IntN(9))})
		case 2:
			err = f.WriteDataPadded(stream, last, data, make([]byte, r.IntN(20)))
		case 3:
			err = f.WriteData(stream, last, data)
		case 4:
			err = f.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestFrames: whatever the pieces in which bytes come, the same frames are found as
// by the library's own reader, and of their data nothing but the data.
func TestFrames(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		sent := some(t, r)
		var want, got []string
		for f := http2.NewFramer(nil, bytes.NewReader(sent)); ; {
			frame, err := f.ReadFrame()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			h := frame.Header()
			want = append(want, fmt.Sprint("begin ", h.Type, h.Flags, h.StreamID))
			if d, ok := frame.(*http2.DataFrame); ok {
				for _, one := range d.Data() {
					want = append(want, fmt.Sprint(h.StreamID, one))
				}
			}
			want = append(want, fmt.Sprint("end ", h.Type, h.Flags, h.StreamID))
		}
		f := frames{skip: 3}
		for rest := append([]byte("pre"), sent...); len(rest) > 0; {
			n := 1 + r.IntN(min(len(rest), 50))
			err := f.pass(rest[:n],
				func(h http2.FrameHeader) {
					got = append(got, fmt.Sprint("begin ", h.Type, h.Flags, h.StreamID))
				},
				func(h http2.FrameHeader, b []byte) error {
					for _, one := range b {
						got = append(got, fmt.Sprint(h.StreamID, one))
					}
					return nil
				},
				func(h http2.FrameHeader) {
					got = append(got, fmt.Sprint("end ", h.Type, h.Flags, h.StreamID))
				})
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d things, want %d", seed, len(got), len(want))
		}
	}
}
