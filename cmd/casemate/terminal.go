package main

import (
	"os"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/casemate/casemate"
)

// A terminal is the one that this command runs at, while a command in a
// sandbox has one of its own.
type terminal struct {
	fd     int
	own    bool // the command gets a terminal
	screen bool // standard input is one here

	mu    sync.Mutex
	state *term.State // as it was; nil: it is as it was
}

// terminal says whether the command gets a terminal: where standard input and
// output are, or by force.
func (a *app) terminal(force bool) *terminal {
	t := &terminal{fd: int(os.Stdin.Fd())}
	t.screen = term.IsTerminal(t.fd)
	t.own = force || t.screen && a.outTTY
	return t
}

// size is that of the terminal here, or what one has without a screen; zero
// where the command gets none.
func (t *terminal) size() casemate.Size {
	if !t.own {
		return casemate.Size{}
	}
	for _, fd := range []int{t.fd, int(os.Stdout.Fd())} {
		if w, h, err := term.GetSize(fd); err == nil && w > 0 && h > 0 && w < 1<<16 && h < 1<<16 {
			return casemate.Size{Columns: uint16(w), Rows: uint16(h)}
		}
	}
	return casemate.Size{Columns: 80, Rows: 24}
}

// raw hands every key to the command: the keys that are signals are made
// such by its own terminal.
func (t *terminal) raw() error {
	if !t.own || !t.screen {
		return nil
	}
	s, err := term.MakeRaw(t.fd)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == nil {
		t.state = s
	}
	return nil
}

// restore gives the terminal back as it was. It may be called more than once.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != nil {
		term.Restore(t.fd, t.state)
		t.state = nil
	}
}

// pause gives the terminal back while f runs.
func (t *terminal) pause(f func()) {
	t.mu.Lock()
	was := t.state != nil
	t.mu.Unlock()
	t.restore()
	f()
	if was {
		t.raw()
	}
}

// A visible is an io.Writer to a screen that shows what could drive it; see
// escape.
type visible struct {
	to   *os.File
	rest []byte // the beginning of a character
}

func (v *visible) Write(b []byte) (int, error) {
	all := append(v.rest, b...)
	cut := len(all)
	for i := 1; i < utf8.UTFMax && i <= len(all); i++ {
		if c := all[len(all)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(all[len(all)-i:]) {
				cut -= i
			}
			break
		}
	}
	v.rest = append([]byte(nil), all[cut:]...)
	if _, err := v.to.WriteString(escape(string(all[:cut]))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// close writes what did not become a character.
func (v *visible) close() {
	v.to.WriteString(escape(string(v.rest)))
	v.rest = nil
}
