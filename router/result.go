package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/casemate/casemate"
)

// result makes the result of a reply: one text (what was printed, the value of
// the last expression, standard error under a heading, the failure), then the
// files. An error means that the tool did not give what its manifest says.
func (k *call) result(rp *reply) (*casemate.Result, error) {
	if k.Files != nil {
		return filesResult(k.Files, rp)
	}
	res := &casemate.Result{Content: []casemate.Content{}}
	var text strings.Builder
	text.Grow(len(rp.stdout) + len(rp.value) + len(rp.stderr) + len(rp.failure) + 16) // may be much: without copies
	add := func(heading string, b []byte) {
		if len(b) == 0 {
			return
		}
		if n := text.Len(); n > 0 && text.String()[n-1] != '\n' {
			text.WriteByte('\n')
		}
		text.WriteString(heading)
		if utf8.Valid(b) {
			text.Write(b)
		} else {
			text.Write(bytes.ToValidUTF8(b, []byte("\uFFFD")))
		}
	}
	add("", rp.stdout)
	add("", rp.value)
	add("[stderr]\n", rp.stderr)
	add("", rp.failure)
	if text.Len() > 0 {
		res.Content = append(res.Content, casemate.Content{Type: "text", Text: text.String()})
	}
	for _, f := range rp.files {
		res.Content = append(res.Content, content(f))
	}
	if note := heldBack(k.ID, k.out.Changes); note != "" {
		res.Content = append(res.Content, casemate.Content{Type: "text", Text: note})
	}
	if b, what, fix := k.promised(rp); what != "" && rp.done && !rp.failed && rp.status == 0 {
		v, _, err := decode(b, false)
		if err == nil {
			res.Structured, err = encode(v)
		}
		if err != nil {
			return res, &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: fmt.Errorf("%s: %w", what, err), Fix: fix}
		}
	}
	return res, nil
}

// promised is the part of a reply that the manifest says is JSON, and what it is
// where it is not; "" is none.
func (k *call) promised(rp *reply) (b []byte, what, fix string) {
	r := k.tool.Run
	switch {
	case r.Exec != nil && r.Exec.Result == "json", r.Wasm != nil && r.Wasm.Result == "json":
		return rp.stdout, "its standard output is not one JSON value, as result: json promises", "let the program print one JSON value, or say result: text"
	case r.Wasm != nil && r.Wasm.Function != "" && rp.value != nil:
		return rp.value, "the result of its function is not one JSON value", "let the function give one JSON value"
	}
	return nil, "", ""
}

var mimeType = regexp.MustCompile(`^[a-z]+/[a-z0-9][a-z0-9.+-]*$`)

// content shows a file that the tool wrote: pictures as images, everything
// else as a resource, in text where it says so and is.
func content(f file) casemate.Content {
	mime := f.mime
	if !mimeType.MatchString(mime) {
		mime = "application/octet-stream"
	}
	if strings.HasPrefix(mime, "image/") {
		return casemate.Content{Type: "image", Data: []byte(f.data), MimeType: mime}
	}
	name := strings.TrimPrefix(strings.ToValidUTF8(f.name, "\uFFFD"), "/")
	c := casemate.Content{Type: "resource", MimeType: mime, URI: (&url.URL{Scheme: "file", Path: "/out/" + name}).String()}
	if strings.HasPrefix(mime, "text/") && utf8.ValidString(f.data) {
		c.Text = f.data
	} else {
		c.Data = []byte(f.data)
	}
	return c
}

// heldBack tells the planner in one line what was not carried out; the paths
// are the guest's words.
func heldBack(id casemate.CallID, changes []casemate.Change) string {
	n, first := 0, casemate.Change{}
	for _, c := range changes {
		if c.Did == "held" || c.Did == "conflict" {
			if n == 0 {
				first = c
			}
			n++
		}
	}
	if n == 0 {
		return ""
	}
	s := fmt.Sprintf("[casemate] not carried out: %s (%s)", quote(first.Path), cut(first.Did+": "+first.Why, 100))
	if n > 1 {
		s += fmt.Sprintf(" and %d more", n-1)
	}
	return s + "; see casemate diff " + string(id)
}

// preloadFix is what to do where a failure is a runner's word that a module of
// preload cannot be had. Code of a call can say the same, which tells its caller
// something wrong and no more.
func preloadFix(run casemate.Run, failure []byte) string {
	for _, s := range []*casemate.Script{run.Python, run.Node} {
		if s == nil {
			continue
		}
		for _, m := range s.Preload {
			if bytes.HasPrefix(failure, []byte("preload: the module "+m+" cannot be ")) {
				return "correct preload in the manifest, or install the module for its interpreter"
			}
		}
	}
	return ""
}

// lastLine is what a failure says at its end: of a traceback, the exception.
func lastLine(b []byte) string {
	b = bytes.TrimSpace(b)
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		b = b[i+1:]
	}
	if len(b) == 0 {
		return "the tool failed"
	}
	return cut(strings.ToValidUTF8(string(b), "\uFFFD"), 500)
}

// encode writes a decoded value, keys sorted, numbers as they were written.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
