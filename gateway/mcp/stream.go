package mcp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/internal/jsontext"
)

// maxHeld bounds what of a long result waits for its end, in bytes: its _meta,
// and whether it is an error.
const maxHeld = 256 << 10

// A streamed is the answer to one request that is too long to be held: it is
// sent while the server writes it. What was sent is always one message in the
// end, and JSON: where the server, its result or its time ends in the middle,
// what is open is closed, and the result says isError and why. Until then
// nothing else is sent by that outlet.
type streamed struct {
	to     outlet
	id     json.RawMessage
	modern bool // the client wants a resultType

	began   atomic.Bool
	out     *bufio.Writer
	m       jsontext.Members
	key     string            // of the member that is being read
	sent    bool              // it, in part at least
	passed  int               // members that were
	held    map[string][]byte // of members that are sent at the end
	content contentState
	last    byte // of content that was sent, but for white space
	failed  error
}

// A contentState is how far the content of a result was sent.
type contentState int

const (
	noContent   contentState = iota
	openContent              // but for its last bracket, at least
	wholeContent
)

var _ casemate.ResultStream = (*streamed)(nil)

// begun says whether the client has a part of the answer.
func (s *streamed) begun() bool { return s != nil && s.began.Load() }

func badResult(why string) error {
	return &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: errors.New("the server answered with a long result that " + why)}
}

// Write passes on a part of the result.
func (s *streamed) Write(b []byte) (int, error) {
	if !s.begun() {
		s.out = bufio.NewWriterSize(s.to.hold(), 4<<10) // until finish
		s.began.Store(true)
		s.held = map[string][]byte{}
		s.m.Key, s.m.Value = s.begin, s.value
		head, _ := s.to.frame()
		s.print(head, `{"jsonrpc":"2.0","id":`, string(s.id), `,"result":{`)
	}
	if s.failed == nil {
		s.failed = s.m.Feed(b)
	}
	if s.failed != nil {
		return 0, s.failed
	}
	return len(b), nil
}

// print writes text; an error of the client's end shows at the next flush.
func (s *streamed) print(text ...string) {
	for _, t := range text {
		s.out.WriteString(t)
	}
}

// begin is at the key of a member.
func (s *streamed) begin(key string) error {
	s.key, s.sent = key, false
	if strings.EqualFold(key, "inputRequests") {
		return &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: errors.New(wantsInput().Message)}
	}
	for _, ours := range [...]string{"_meta", "isError", "resultType", "content"} {
		if key != ours && strings.EqualFold(key, ours) {
			return badResult("has a key that differs by case alone from one with a meaning")
		}
	}
	return nil
}

// value has a part of the value of a member.
func (s *streamed) value(b []byte, end bool) error {
	if len(b) == 0 && !end {
		return nil
	}
	switch s.key {
	case "_meta", "isError", "resultType":
		if len(s.held[s.key])+len(b) > maxHeld {
			return badResult("says too much beside its content")
		}
		s.held[s.key] = append(s.held[s.key], b...)
		return nil
	}
	if !s.sent {
		if s.key == "content" && b[0] != '[' {
			return badResult("has content that is no array")
		}
		if s.content == openContent {
			s.print("]")
			s.content = wholeContent
		}
		s.name(s.key)
		s.sent = true
	}
	if s.key == "content" {
		s.content = openContent
		if end {
			b = b[:len(b)-1] // its bracket: something may have to be added
		}
		if t := bytes.TrimRight(b, " \t\r\n"); len(t) > 0 {
			s.last = t[len(t)-1]
		}
	}
	for { // the server's lines end with \n, which it holds none of; a client's may end with \r too
		line, more, found := bytes.Cut(b, []byte("\r"))
		if _, err := s.out.Write(line); err != nil || !found {
			return err
		}
		s.print(" ")
		b = more
	}
}

// End says whether the result, which is whole, says that the tool failed.
func (s *streamed) End() (bool, error) {
	if kind := s.held["resultType"]; kind != nil && text(kind) != "complete" {
		return false, &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: errors.New(wantsInput().Message)}
	}
	is := s.held["isError"]
	return is != nil && string(is) != "false" && string(is) != "null", nil
}

// finish ends the answer as the call ended, and lets others send.
func (s *streamed) finish(o *casemate.Outcome) {
	defer s.to.free()
	var notes []json.RawMessage
	if o.Result != nil {
		for _, c := range o.Result.Content {
			notes = append(notes, encode(c))
		}
	}
	said, _ := s.End()
	if e := gateway.PlannerError(o.Error); e != nil && !(said && s.m.Done()) {
		for _, c := range failure(e).Content {
			notes = append(notes, encode(c))
		}
	}
	meta := s.meta(o)
	s.close(notes, &meta)
	if o.Error != nil || said {
		s.member("isError", json.RawMessage("true"))
	} else if is := s.held["isError"]; is != nil {
		s.member("isError", is)
	}
	if kind := s.held["resultType"]; kind != nil && o.Error == nil {
		s.member("resultType", kind)
	} else if s.modern {
		s.member("resultType", json.RawMessage(`"complete"`))
	}
	if len(meta) > 0 {
		s.member("_meta", compose(meta))
	}
	_, tail := s.to.frame()
	s.print("}}", tail)
	s.out.Flush() // an error shows at the next Write of the SDK
}

// close makes whole what was sent, with notes at the end of the content, or,
// where something stands behind that already, in meta.
func (s *streamed) close(notes []json.RawMessage, meta *[]member) {
	switch {
	case !s.sent:
	case s.key == "content":
		s.add(s.m.Finish(2))
	default:
		s.out.Write(s.m.Finish(1))
	}
	switch {
	case s.content == openContent:
		for _, n := range notes {
			if s.last != '[' && s.last != ',' {
				s.print(",")
			}
			s.add(n)
		}
		s.print("]")
	case s.content == noContent && len(notes) > 0:
		s.member("content", array(notes))
	case len(notes) > 0:
		*meta = append(*meta, member{"casemate/notes", array(notes)})
	}
}

// add writes more of the content.
func (s *streamed) add(b []byte) {
	if len(b) > 0 {
		s.last = b[len(b)-1]
		s.out.Write(b)
	}
}

func (s *streamed) member(key string, value json.RawMessage) {
	s.name(key)
	s.print(string(value))
}

// name begins a member.
func (s *streamed) name(key string) {
	if s.passed++; s.passed > 1 {
		s.print(",")
	}
	s.print(string(encode(key)), ":")
}

// meta is what the server says in _meta, where it was whole, and ours.
func (s *streamed) meta(o *casemate.Outcome) []member {
	var meta []member
	if s.m.Done() || s.key != "_meta" {
		meta, _ = members(s.held["_meta"]) // what is none is left out
	}
	meta = without(meta, ours)
	if o.Call != "" {
		meta = append(meta, member{callKey, encode(o.Call)})
	}
	return meta
}
