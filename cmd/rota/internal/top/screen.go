package top

import (
	"strings"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"

	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// Screen is what Run draws on.
type Screen struct{ s tcell.Screen }

// Open takes over the terminal of this process until Close. The error says that there
// is none that can be drawn on. The terminal is asked nothing: an answer that comes
// after the end would be read by the shell.
func Open() (Screen, error) {
	tty, err := tcell.NewStdIoTty()
	if err != nil {
		return Screen{}, err
	}
	s, err := tcell.NewTerminfoScreenFromTty(tty, tcell.OptSanitizeContent(true), tcell.OptNegotiation(false))
	if err != nil {
		return Screen{}, err
	}
	if err := s.Init(); err != nil {
		return Screen{}, err
	}
	s.HideCursor()
	return Screen{s}, nil
}

// Close gives the terminal back as it was. It may be called again.
func (s Screen) Close() { s.s.Fini() }

// Size is that of the screen.
func (s Screen) Size() (width, height int) { return s.s.Size() }

// Events are what happens at the terminal, for Message.
func (s Screen) Events() <-chan tcell.Event { return s.s.EventQ() }

// Message is what an event means to a Model; nil: nothing.
func (s Screen) Message(e tcell.Event) any {
	switch e := e.(type) {
	case *tcell.EventResize:
		s.s.Sync()
		w, h := s.s.Size()
		return Size{w, h}
	case *tcell.EventKey:
		return keyOf(e)
	}
	return nil
}

// named are the keys that have no letter.
var named = map[tcell.Key]Key{
	tcell.KeyUp: "up", tcell.KeyDown: "down", tcell.KeyLeft: "left", tcell.KeyRight: "right", tcell.KeyPgUp: "pgup", tcell.KeyPgDn: "pgdn",
	tcell.KeyHome: "home", tcell.KeyEnd: "end", tcell.KeyEnter: "enter", tcell.KeyEsc: "esc", tcell.KeyTab: "tab", tcell.KeyBacktab: "backtab",
	tcell.KeyBackspace: "backspace", tcell.KeyBackspace2: "backspace", tcell.KeyCtrlC: "ctrl-c",
}

func keyOf(e *tcell.EventKey) any {
	if k, ok := named[e.Key()]; ok {
		return k
	}
	if e.Key() == tcell.KeyRune && e.Modifiers()&(tcell.ModAlt|tcell.ModCtrl|tcell.ModMeta) == 0 {
		return Key(e.Str())
	}
	if e.Modifiers()&tcell.ModCtrl != 0 && strings.EqualFold(e.Str(), "c") {
		return Key("ctrl-c")
	}
	return nil
}

// Draw draws the lines, and nothing below them.
func (s Screen) Draw(lines []Line, noColor bool) {
	s.s.Clear()
	for y, l := range lines {
		x := 0
		for _, sp := range l.spans {
			s.s.PutStrStyled(x, y, sp.text, style(sp.tone, l, noColor))
			x += terminal.Width(sp.text)
		}
		if width, _ := s.s.Size(); l.chosen && x < width {
			s.s.PutStrStyled(x, y, strings.Repeat(" ", width-x), style(plain, l, noColor))
		}
	}
	s.s.Show()
}

func style(t tone, l Line, noColor bool) tcell.Style {
	st := tcell.StyleDefault.Reverse(l.chosen || t == picked).Dim(l.dim || t == quiet).Bold(t == strong && !l.dim)
	if noColor || l.dim || l.chosen {
		return st
	}
	switch t {
	case good:
		return st.Foreground(color.Green)
	case warn:
		return st.Foreground(color.Olive)
	case bad:
		return st.Foreground(color.Maroon)
	}
	if t >= hue {
		return st.Foreground(inks[(t-hue)%hues])
	}
	return st
}

// inks are the colours of groups. Green, olive and maroon are for states.
var inks = [hues]color.Color{color.Teal, color.Blue, color.Purple, color.Aqua, color.Fuchsia, color.Silver}
