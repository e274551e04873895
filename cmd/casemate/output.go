package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/casemate/casemate"
)

// escape returns s with everything that could drive a terminal, or hide or
// reorder what a person reads, made visible: C0 and C1 controls, DEL, bytes
// that are not UTF-8 (\xNN), and bidirectional and invisible characters
// (\u{NNNN}). Newline and tab stay.
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// escapeLine is escape for one line: newlines and tabs are made visible too.
func escapeLine(s string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(escape(s))
}

// hidden says whether r is not what it looks like: a format character (Cf:
// bidirectional controls, zero-width characters, tags, the byte order mark),
// a line or paragraph separator, a private-use character or a variation
// selector beyond the two that emoji need.
func hidden(r rune) bool {
	switch {
	case unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co):
		return true
	case r >= 0xe0100 && r <= 0xe01ef, r >= 0xfe00 && r <= 0xfe0d: // variation selectors
		return true
	case r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0, r == 0x2800: // blanks that are letters
		return true
	}
	return false
}

// console is where a command writes: results to out, everything else to err.
type console struct {
	out, err io.Writer
	json     bool
	outTTY   bool
	errTTY   bool
}

func newConsole(jsonOut bool) *console {
	return &console{
		out: os.Stdout, err: os.Stderr, json: jsonOut,
		outTTY: term.IsTerminal(int(os.Stdout.Fd())),
		errTTY: term.IsTerminal(int(os.Stderr.Fd())),
	}
}

// text writes s to out: as it is into a pipe or a file, escaped where a
// person sees it.
func (c *console) text(s string) error {
	if c.outTTY {
		s = escape(s)
	}
	_, err := io.WriteString(c.out, s)
	return err
}

// line writes one formatted line of our own to out; its arguments may be
// hostile and are escaped.
func (c *console) line(format string, args ...any) error {
	_, err := io.WriteString(c.out, escape(fmt.Sprintf(format, args...))+"\n")
	return err
}

// note writes one escaped line to err.
func (c *console) note(format string, args ...any) {
	fmt.Fprintf(c.err, "%s\n", escape("casemate: "+fmt.Sprintf(format, args...)))
}

// object writes v as one JSON object to out.
func (c *console) object(v any) error {
	e := json.NewEncoder(c.out)
	e.SetEscapeHTML(false)
	if c.outTTY {
		// JSON escapes C0 only; C1 and what is hidden would reach the terminal.
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = io.WriteString(c.out, jsonASCII(string(b))+"\n")
		return err
	}
	return e.Encode(v)
}

// jsonASCII returns the JSON text s with every character beyond ASCII, and
// DEL, as \u escapes; the value is the same.
func jsonASCII(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// status is an exit status that stands for a failure already reported.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// report tells the reader of err and returns the exit status.
func (c *console) report(err error) int {
	if err == nil {
		return 0
	}
	if s, ok := errors.AsType[status](err); ok {
		return int(s)
	}
	j := casemate.JSON(err)
	if c.json {
		c.object(struct {
			Error *casemate.ErrorJSON `json:"error"`
		}{j})
	}
	c.complain(j)
	return j.Kind.ExitStatus()
}

// complain writes an error and its fix to err.
func (c *console) complain(j *casemate.ErrorJSON) {
	c.note("%s", j.Message)
	if j.Fix != "" {
		fmt.Fprintf(c.err, "fix: %s\n", escape(j.Fix))
	}
}

// invalid is an error of usage or of the configuration.
func invalid(op, fix, format string, args ...any) error {
	return &casemate.Error{Op: op, Kind: casemate.Invalid, Err: fmt.Errorf(format, args...), Fix: fix}
}

// size is a number of bytes for people.
func size(n int64) string {
	for _, u := range []string{"B", "kB", "MB"} {
		if n < 1000 {
			return fmt.Sprintf("%d %s", n, u)
		}
		n = (n + 500) / 1000
	}
	return fmt.Sprintf("%d GB", n)
}
