package api

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// The bounds of what a call says of itself.
const (
	maxKey     = 256 // bytes
	maxTimeout = 24 * time.Hour
)

// mediaType is the type of a body, without parameters.
func mediaType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// object reads a body that is one JSON object. Each key has a reader, which
// says whether it took the value; there is no other key. A page of another site
// can send JSON only as another type, which is refused.
func object(r *http.Request, fix string, readers map[string]func(json.RawMessage) bool) error {
	if mediaType(r) != "application/json" {
		return invalid(fix, "the Content-Type is not application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, gateway.MaxBody+1))
	if err != nil || len(body) > gateway.MaxBody {
		return invalid(fix, "the body could not be read")
	}
	return fields(body, fix, readers)
}

func fields(body []byte, fix string, readers map[string]func(json.RawMessage) bool) error {
	if err := gateway.Check(body); err != nil {
		return invalid(fix, "%w", err)
	}
	var got map[string]json.RawMessage
	if json.Unmarshal(body, &got) != nil || got == nil {
		return invalid(fix, "the body is not an object")
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		read := readers[key]
		if read == nil {
			return invalid(fix, "%.64q: there is no such key", key)
		}
		if !read(got[key]) {
			return invalid(fix, "%s: it is of the wrong type, empty, or out of bounds", key)
		}
	}
	return nil
}

func text(raw json.RawMessage) (s string, ok bool) {
	return s, raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

// word reads a text of 1 to max bytes.
func word[T ~string](to *T, max int) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		s, ok := text(raw)
		*to = T(s)
		return ok && s != "" && len(s) <= max
	}
}

func boolean(to *bool) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		return (raw[0] == 't' || raw[0] == 'f') && json.Unmarshal(raw, to) == nil
	}
}

// arguments are an object, or, as the OpenAI API has it, its JSON text. What
// is in the text is checked like the body.
func arguments(to *json.RawMessage) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		if s, ok := text(raw); ok {
			raw = json.RawMessage(strings.TrimSpace(s))
			if gateway.Check(raw) != nil {
				return false
			}
		}
		*to = raw
		return raw[0] == '{'
	}
}

// timeout is "10s", as a manifest has it, or a number of seconds.
func timeout(to *time.Duration) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		if s, ok := text(raw); ok {
			d, err := time.ParseDuration(s)
			*to = d
			return err == nil && d > 0 && d <= maxTimeout
		}
		var n float64
		if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') || json.Unmarshal(raw, &n) != nil || !(n > 0) || n > maxTimeout.Seconds() {
			return false
		}
		*to = time.Duration(math.Ceil(n * float64(time.Second)))
		return true
	}
}

// sessionOf joins the session that the body names and the one of the header.
func sessionOf(r *http.Request, session *string) error {
	hs := r.Header.Values(gateway.SessionHeader)
	if len(hs) == 0 {
		return nil
	}
	if len(hs) > 1 || hs[0] == "" || *session != "" && *session != hs[0] {
		return invalid("name it once", "session: the %s header and the body name different sessions, or none", gateway.SessionHeader)
	}
	*session = hs[0]
	return nil
}

// A request is what POST /v1/calls asks.
type request struct {
	casemate.Call
	session    string // as the caller names it
	stream     bool
	background bool
	open       bool  // its standard input comes later
	wrong      error // of limits
}

const callFix = `send {"tool": NAME, "arguments": {…}, "session": NAME} with Content-Type: application/json`

// readers are those of the keys of a call.
func (q *request) readers() map[string]func(json.RawMessage) bool {
	return map[string]func(json.RawMessage) bool{
		"tool":      word(&q.Tool, 1024),
		"session":   word(&q.session, 1024),
		"arguments": arguments(&q.Arguments),
		"key":       word(&q.Key, maxKey),
		"timeout":   timeout(&q.Timeout),
		"limits": func(raw json.RawMessage) bool {
			q.wrong = json.Unmarshal(raw, &q.Limits)
			return true
		},
		"inputs": func(raw json.RawMessage) bool {
			var in map[string][]byte
			if raw[0] != '{' || json.Unmarshal(raw, &in) != nil {
				return false
			}
			for _, name := range slices.Sorted(maps.Keys(in)) {
				q.Inputs = append(q.Inputs, casemate.Input{Name: name, Data: in[name]})
			}
			return true
		},
		"stream":     boolean(&q.stream),
		"background": boolean(&q.background),
		"stdin": func(raw json.RawMessage) bool {
			if s, ok := text(raw); ok {
				q.Stdin = strings.NewReader(s)
				return true
			}
			return boolean(&q.open)(raw)
		},
	}
}

func readCall(r *http.Request) (*request, error) {
	q := &request{}
	err := object(r, callFix, q.readers())
	if err == nil {
		err = sessionOf(r, &q.session)
	}
	switch {
	case err != nil:
		return nil, err
	case q.wrong != nil:
		return nil, invalid(`"limits": {"memory": "64MiB", "timeout": "2s", "without": ["/docs"]}`, "%w", q.wrong)
	case q.Tool == "":
		return nil, invalid(callFix, "tool: missing")
	case q.Key != "" && q.session == "":
		return nil, invalid("name a session, or leave the key out", "key: it names a call of a session, and there is no session")
	case q.open && !q.background:
		return nil, invalid("send its bytes as a string", "stdin: only that of a background call may stay open")
	case q.stream && q.background:
		return nil, invalid("GET /v1/calls/{id}/output streams what a background call prints", "stream: it is in the background")
	}
	if q.Arguments == nil {
		q.Arguments = json.RawMessage("{}")
	}
	q.stream = q.stream || !q.background && accepts(r, eventStream)
	return q, nil
}

// accepts says whether the caller asks for that type by name.
func accepts(r *http.Request, want string) bool {
	for _, h := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(h, ",") {
			if t, _, _ := strings.Cut(one, ";"); strings.EqualFold(strings.TrimSpace(t), want) {
				return true
			}
		}
	}
	return false
}
