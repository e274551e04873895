package casemate

import (
	"errors"
	"strings"
)

// A Kind says what sort of failure an Error is.
type Kind string

// The kinds.
const (
	Invalid     Kind = "invalid"         // the request or the configuration is wrong
	Denied      Kind = "denied"          // decided against, or not trusted
	Unsupported Kind = "unsupported"     // cannot be enforced here
	Timeout     Kind = "timeout"         // the call's time was over
	Killed      Kind = "killed-by-limit" // a limit other than time ended it
	ToolFailed  Kind = "tool-failed"     // the tool ran and failed
	Busy        Kind = "busy"            // a bound on calls is reached; try again
	Cancelled   Kind = "cancelled"       // the caller went away, or the operator stopped it
	Gone        Kind = "gone"            // the session was ended
	Conflict    Kind = "conflict"        // a call's key stands for another call, or its state allows it not
	Unknown     Kind = "unknown"         // it may have run, and is never run again: there is an intent and no outcome
	Internal    Kind = "internal"        // a fault of ours or of the host
)

// ExitStatus is the exit status of the command line for an error of kind k.
func (k Kind) ExitStatus() int {
	switch k {
	case Invalid:
		return 2
	case Denied:
		return 3
	case Unsupported:
		return 4
	}
	return 1
}

// An Error says what failed, on what, why, and what to do about it. Err is
// for the operator; what a planner sees of a denial is constant.
type Error struct {
	Op   string   // what was being done: "call", "start", "load", …
	Tool ToolName // on what, where it was a tool
	Call CallID
	Kind Kind
	Err  error
	Fix  string // what the reader can do; one sentence, or a command
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Tool != "" {
		b.WriteString(string(e.Tool) + ": ")
	} else if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString(string(e.Kind))
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first Error in err's chain; any other error
// is Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// ErrorJSON is an Error as machines read it.
type ErrorJSON struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// JSON returns err as machines read it; nil for nil.
func JSON(err error) *ErrorJSON {
	if err == nil {
		return nil
	}
	j := &ErrorJSON{Kind: KindOf(err), Message: err.Error()}
	if e, ok := errors.AsType[*Error](err); ok {
		j.Fix = e.Fix
	}
	return j
}

// bug is for states that no outsider can cause.
func bug(what string) { panic("casemate: bug: " + what) }
