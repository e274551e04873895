package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	eventStream = "text/event-stream"
	writeTime   = 30 * time.Second // for one event to reach the client's side
	keepAlive   = 15 * time.Second // between two signs of life
)

// events is the answer of a stream: server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html), whose data
// is one line of JSON.
type events struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
	err   error  // of the first write that failed; none is tried after it
	buf   []byte // of print
}

func newEvents(w http.ResponseWriter) *events {
	return &events{w: w, rc: http.NewResponseController(w)}
}

// receipt says the receipt in the header, where that is not sent yet.
func (s *events) receipt(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun && id != "" {
		s.w.Header().Set(receiptHeader, id)
	}
}

// send sends one event, and blocks while its client does not read, for
// writeTime at most.
func (s *events) send(event, id string, data any) error {
	var b bytes.Buffer
	b.WriteString("event: " + event + "\n")
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("data: ")
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(data); err != nil { // which ends the line
		return err
	}
	b.WriteByte('\n')
	return s.write(b.Bytes())
}

// print sends what was printed, as send would send dataOf it: a call may print
// without end, so that nothing is made anew for each piece. One at a time may
// use it.
func (s *events) print(stream int, b []byte) error {
	out := append(append(append(s.buf[:0], "event: "...), nameOf(stream)...), "\ndata: {"...)
	if utf8.Valid(b) {
		out = append(appendText(append(out, `"text":"`...), b), '"')
	} else {
		out = append(base64.StdEncoding.AppendEncode(append(out, `"base64":"`...), b), '"')
	}
	s.buf = append(out, "}\n\n"...)
	return s.write(s.buf)
}

// appendText writes UTF-8 as the inside of a string of JSON, on one line for
// whoever reads JSON as JavaScript too.
func appendText(out, b []byte) []byte {
	const hex = "0123456789abcdef"
	done := 0 // of b
	for i, c := range b {
		var escaped string
		switch {
		case c == '"' || c == '\\':
			escaped = string([]byte{'\\', c})
		case c == '\n':
			escaped = `\n`
		case c == '\t':
			escaped = `\t`
		case c == '\r':
			escaped = `\r`
		case c < 0x20:
			escaped = string([]byte{'\\', 'u', '0', '0', hex[c>>4], hex[c&15]})
		case c == 0xA8 || c == 0xA9: // of U+2028 or U+2029, the ends of lines
			if i < 2 || b[i-2] != 0xE2 || b[i-1] != 0x80 {
				continue
			}
			out = append(append(append(out, b[done:i-2]...), `\u202`...), hex[c-0xA0])
			done = i + 1
			continue
		default:
			continue
		}
		out = append(append(out, b[done:i]...), escaped...)
		done = i + 1
	}
	return append(out, b[done:]...)
}

func (s *events) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", eventStream)
		s.w.WriteHeader(http.StatusOK)
	}
	s.rc.SetWriteDeadline(time.Now().Add(writeTime)) // an error means a transport without deadlines
	defer s.rc.SetWriteDeadline(time.Time{})
	if _, s.err = s.w.Write(b); s.err == nil {
		s.err = s.rc.Flush()
	}
	return s.err
}

// fail answers with an error, by the status where nothing was sent yet.
func (s *events) fail(err error) {
	s.mu.Lock()
	begun := s.begun
	if !begun {
		s.err = errClosed // no sign of life stands in the answer
	}
	s.mu.Unlock()
	if !begun {
		fail(s.w, err)
		return
	}
	s.send("outcome", "", failure(err))
}

var errClosed = errors.New("the stream is over")

// close ends the stream: a call that goes on for others writes nothing to it.
func (s *events) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errClosed
}

// keep sends signs of life until the function that it returns is called.
func (s *events) keep() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(keepAlive)
		defer t.Stop()
		for {
			select {
			case <-end:
				return
			case <-t.C:
				if s.write([]byte(": \n\n")) != nil {
					return
				}
			}
		}
	}()
	return func() { close(end); <-ended }
}

func nameOf(stream int) string {
	if stream == 2 {
		return "stderr"
	}
	return "stdout"
}

// A piece is bytes that were printed: text where they are UTF-8, which pieces
// of a text need not be, else base64.
type piece struct {
	Text   *string `json:"text,omitempty"`
	Base64 []byte  `json:"base64,omitempty"`
}

func dataOf(b []byte) piece {
	if utf8.Valid(b) {
		s := string(b)
		return piece{Text: &s}
	}
	return piece{Base64: b}
}
