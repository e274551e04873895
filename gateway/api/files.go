package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// maxPath bounds a path, in bytes.
const maxPath = 4096

// An entry is what is known of one file.
type entry struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // file, folder, link, other
	Size     int64  `json:"size"`
	Modified string `json:"modified,omitempty"`
	Mode     string `json:"mode,omitempty"` // octal
}

// A place is where the files of a request are: those of the guest that one
// tool has in one session.
type place struct {
	session string // as the caller names it
	tool    casemate.ToolName
}

// placeOf finds the tool of a request. It may be left out where the session
// has called exactly one that keeps a guest, or where the caller has only one
// such; tools that share a guest are one.
func (a *API) placeOf(r *http.Request) (place, error) {
	c := gateway.CredentialOf(r.Context())
	p := place{session: r.PathValue("id"), tool: casemate.ToolName(r.URL.Query().Get("tool"))}
	if r.URL.Query().Has("tool") {
		if p.tool == "" || len(p.tool) > 1024 {
			return p, invalid("name a tool, or leave it out", "tool: empty, or too long")
		}
		return p, nil
	}
	var called []casemate.ToolName
	if s, err := a.sessions.Get(c.Name, p.session); err == nil {
		called = s.Tools
	}
	guests := map[casemate.Digest]casemate.ToolName{}
	all := map[casemate.Digest]casemate.ToolName{}
	for _, t := range a.router.Tools() {
		if !c.May(t.Name) || !hasFiles(t) {
			continue
		}
		all[t.Guest()] = t.Name
		if slices.Contains(called, t.Name) {
			guests[t.Guest()] = t.Name
		}
	}
	if len(guests) == 0 {
		guests = all
	}
	for _, name := range guests {
		p.tool = name
	}
	if len(guests) != 1 {
		return p, invalid("name it: ?tool=NAME", "tool: missing, and the session has %d whose files could be meant", len(guests))
	}
	return p, nil
}

// hasFiles says whether a tool's guest can be asked for files.
func hasFiles(t *casemate.Tool) bool {
	return t.Security.Scope == casemate.ScopeSession && t.Run.MCP == nil && t.Run.Builtin == ""
}

// fileCall does one thing with a file, as a call of its own. It goes on though
// the client hangs up: a call that is cancelled costs a session its guest, with
// all that is in it.
func (a *API) fileCall(ctx context.Context, p place, id casemate.CallID, f *casemate.FileRequest) (answer, error) {
	ctx = context.WithoutCancel(ctx)
	if f.Path == "" || len(f.Path) > maxPath || strings.ContainsRune(f.Path, 0) {
		return answer{Status: string(casemate.Invalid), Error: &problem{
			casemate.ErrorJSON{Kind: casemate.Invalid, Message: fmt.Sprintf("path: it is not 1 to %d bytes without a NUL", maxPath)}, "invalid_path"}}, nil
	}
	o, err := a.run(ctx, gateway.CredentialOf(ctx), &request{session: p.session,
		Call: casemate.Call{ID: id, Tool: p.tool, Arguments: json.RawMessage("{}"), Files: f}})
	if err != nil {
		return answer{}, err
	}
	ans := answerOf(o)
	if ans.Error != nil {
		ans.Error.Code = codeOf(ans.Error.Message)
	}
	return ans, nil
}

// fileCodes are what can be wrong with a file, and what that is to HTTP.
var fileCodes = []struct {
	code   string
	status int
}{
	{"file_not_found", http.StatusNotFound},
	{"is_directory", http.StatusConflict},
	{"not_a_directory", http.StatusConflict},
	{"permission_denied", http.StatusForbidden},
	{"invalid_path", http.StatusBadRequest},
	{"no_space", http.StatusInsufficientStorage},
	{"too_large", http.StatusRequestEntityTooLarge},
	{"failed", http.StatusUnprocessableEntity},
}

// codeOf is the word that a failure about a file begins with, after the name
// of the tool.
func codeOf(message string) string {
	for range 2 {
		first, rest, _ := strings.Cut(message, ": ")
		for _, f := range fileCodes {
			if f.code == first {
				return f.code
			}
		}
		message = rest
	}
	return ""
}

func fileStatus(e *problem) int {
	if e == nil {
		return http.StatusOK
	}
	for _, f := range fileCodes {
		if f.code == e.Code {
			return f.status
		}
	}
	switch e.Kind {
	case casemate.Timeout:
		return http.StatusGatewayTimeout
	case casemate.ToolFailed, casemate.Killed, casemate.Cancelled:
		return http.StatusBadGateway // of a file there is nothing, then
	}
	return httpStatus(e)
}

// one does one thing with the file that the query names, and answers with the
// answer that it returns; false means that it has answered.
func (a *API) one(w http.ResponseWriter, r *http.Request, f *casemate.FileRequest) (answer, bool) {
	p, err := a.placeOf(r)
	if err == nil {
		f.Path = r.URL.Query().Get("path")
		var ans answer
		if ans, err = a.fileCall(r.Context(), p, "", f); err == nil {
			return ans, true
		}
	}
	fail(w, err)
	return answer{}, false
}

func (a *API) removeFile(w http.ResponseWriter, r *http.Request) {
	if ans, ok := a.one(w, r, &casemate.FileRequest{Op: "remove"}); ok {
		answered(w, fileStatus(ans.Error), ans)
	}
}

func (a *API) statFile(w http.ResponseWriter, r *http.Request) {
	ans, ok := a.one(w, r, &casemate.FileRequest{Op: "stat"})
	if !ok {
		return
	}
	w.Header().Set(receiptHeader, ans.Receipt)
	es, err := entriesOf(ans)
	if ans.Error == nil && err == nil && len(es) == 1 {
		w.Header().Set("Casemate-File", es[0].Kind)
		if es[0].Kind == "file" {
			w.Header().Set("Content-Length", strconv.FormatInt(es[0].Size, 10))
		}
	}
	w.WriteHeader(fileStatus(ans.Error))
}

// A listing is the answer about a folder, or about one file.
type listing struct {
	answer
	Entries []entry `json:"entries"`
}

func (a *API) getFile(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for _, op := range []string{"list", "stat"} {
		switch q.Get(op) {
		case "", "0":
		case "1":
			a.describe(w, r, op)
			return
		default:
			fail(w, invalid("send 0 or 1", "%s: it is neither 0 nor 1", op))
			return
		}
	}
	p, err := a.placeOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	f := &file{w: w, rc: http.NewResponseController(w), id: gateway.NewCall()}
	ans, err := a.fileCall(r.Context(), p, f.id, &casemate.FileRequest{Op: "read", Path: q.Get("path"), To: f})
	switch {
	case f.begun && (err != nil || ans.Error != nil || f.err != nil):
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	case err != nil:
		fail(w, err)
	case ans.Error != nil:
		answered(w, fileStatus(ans.Error), ans)
	default:
		f.begin()
	}
}

func (a *API) describe(w http.ResponseWriter, r *http.Request, op string) {
	ans, ok := a.one(w, r, &casemate.FileRequest{Op: op})
	if !ok {
		return
	}
	if ans.Error != nil {
		answered(w, fileStatus(ans.Error), ans)
		return
	}
	es, err := entriesOf(ans)
	if err != nil {
		fail(w, err)
		return
	}
	ans.Result = nil
	w.Header().Set(receiptHeader, ans.Receipt)
	write(w, http.StatusOK, listing{ans, es})
}

// entriesOf reads what stat and list answered.
func entriesOf(a answer) ([]entry, error) {
	if a.Result == nil {
		return nil, errors.New("it says nothing about the file")
	}
	var list struct {
		Entries []entry `json:"entries"`
	}
	if err := json.Unmarshal(a.Result.Structured, &list); err != nil {
		return nil, err
	}
	if list.Entries == nil {
		list.Entries = []entry{}
	}
	return list.Entries, nil
}
