package agent

import "strings"

// valid makes text of an error that may quote anything: the wire takes UTF-8 only.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
