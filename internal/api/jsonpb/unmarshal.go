package jsonpb

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Error says what is wrong with a JSON text, and where.
type Error struct {
	// Field names the field that is wrong; empty if the text is not JSON.
	Field string
	// Text is for people, with line and column where they are known.
	Text string
}

func (e *Error) Error() string { return e.Text }

// Unmarshal reads the JSON text b into m. 64-bit integers may be numbers or
// strings. An unknown field, the same field twice, a value of the wrong type or
// anything after the value is an *Error, and m is then not to be used.
func Unmarshal(b []byte, m proto.Message) error {
	err := protojson.UnmarshalOptions{}.Unmarshal(b, m)
	if err == nil {
		return nil
	}
	text := err.Error()
	if len(text) > maxText { // it quotes what it does not understand
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return toError(text)
}

// maxText is the longest error, in bytes.
const maxText = 500

var (
	position = regexp.MustCompile(`^\(line (\d+):(\d+)\): `)
	named    = regexp.MustCompile(`(?:unknown field|duplicate field|field) "?([A-Za-z_][A-Za-z0-9_.\[\]]*)"?`)
)

// toError turns the text of protojson, which is not meant to be compared and
// varies from build to build, into ours.
func toError(text string) *Error {
	text = strings.ReplaceAll(text, "\u00a0", " ")
	text = strings.TrimPrefix(text, "proto: ")
	text = strings.TrimPrefix(text, "syntax error ")
	text = position.ReplaceAllString(text, "line $1:$2: ")
	if strings.HasSuffix(text, "unexpected EOF") {
		text = "the JSON text ends in the middle"
	}
	e := &Error{Text: text}
	if found := named.FindStringSubmatch(text); found != nil {
		name := found[1]
		e.Field = name[strings.LastIndexByte(name, '.')+1:]
	}
	return e
}
