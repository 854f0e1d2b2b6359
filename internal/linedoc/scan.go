package linedoc

import "bytes"

func checkMarks(data []byte, marks int) error {
	// Values between brackets cost the library several times what others do.
	n := count(data, "\n\r:?") + 4*count(data, ",[{") + bytes.Count(data, []byte("- ")) + bytes.Count(data, []byte("-\t"))
	if n > marks {
		return errorf(0, "more than %d line ends, colons and dashes, or commas and brackets that count fourfold", marks)
	}
	// The library keeps the tokens of a line until its end, and moves all of them for
	// each one.
	for line, rest := 1, data; len(rest) > 0; line++ {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		if n := count(rest[:end], ",[{?") + bytes.Count(rest[:end], []byte("- ")); n > maxOnLine {
			return errorf(line, "more than %d commas, brackets and dashes on one line", maxOnLine)
		}
		rest = rest[end:]
	}
	return nil
}

// maxOnLine is how many values there may be on a line of YAML.
const maxOnLine = 1024

// checkTOML refuses what would take time by the square, too many values, or stack
// without end: the library calls itself for each bracket within another.
func checkTOML(data []byte) error {
	keys, dots, depth, line := 0, 0, 0, 1
	begun := false // something is on this line
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '#', '"', '\'':
			end := i + tomlWord(data[i:])
			line += bytes.Count(data[i:end], []byte("\n"))
			i = end - 1
		case '=':
			keys++
			dots = 0
		case '.':
			if dots++; dots > maxTOMLDots {
				return errorf(line, "a key of more than %d parts", maxTOMLDots)
			}
		case '[', '{':
			if c == '[' && !begun {
				keys++
			}
			dots = 0
			if depth++; depth > MaxDepth {
				return errorf(line, "nested deeper than %d", MaxDepth)
			}
		case ']', '}':
			depth = max(0, depth-1)
		case ',':
			dots = 0
		case '\n':
			line++
			dots, begun = 0, false
			continue
		case ' ', '\t', '\r':
			continue
		}
		begun = true
		if keys > maxTOMLKeys {
			return errorf(line, "more than %d keys and tables", maxTOMLKeys)
		}
	}
	if n := count(data, ",[{="); n > maxTOMLMarks {
		return errorf(0, "more than %d values", maxTOMLMarks)
	}
	return nil
}

// tomlWord is the length of the comment or the string that data begins with. One
// that does not end goes to the end of its line, or of data if it may have lines.
func tomlWord(data []byte) int {
	if data[0] == '#' {
		return lineEnd(data)
	}
	quote := data[:1]
	lines := len(data) >= 3 && data[1] == data[0] && data[2] == data[0]
	if lines {
		quote = data[:3]
	}
	for i := len(quote); i < len(data); i++ {
		switch {
		case data[i] == '\\' && quote[0] == '"':
			i++
		case bytes.HasPrefix(data[i:], quote):
			return i + len(quote)
		case data[i] == '\n' && !lines:
			return i
		}
	}
	return len(data)
}

// lineEnd is where the first line of data ends.
func lineEnd(data []byte) int {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i
	}
	return len(data)
}

func count(data []byte, marks string) (n int) {
	for i := range len(marks) {
		n += bytes.Count(data, []byte{marks[i]})
	}
	return n
}
