package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// The bounds of one request about many files.
const (
	maxMany   = 256
	maxAnswer = 8 << 20 // bytes of what was read, in all
)

// A fileAsked is one thing to do.
type fileAsked struct {
	op, path string
	data     []byte
}

// A fileDone is what became of it. Each is a call of its own.
type fileDone struct {
	Path    string   `json:"path"`
	Receipt string   `json:"receipt,omitempty"`
	Data    *[]byte  `json:"data,omitempty"` // of read
	Entries []entry  `json:"entries,omitempty"`
	Error   *problem `json:"error,omitempty"`
}

// manyFiles does many things with files, one after the other, and says of
// each how it went. The bytes come as JSON, in base64, or as the parts of a
// form, each named by the path that it is written to.
func (a *API) manyFiles(w http.ResponseWriter, r *http.Request) {
	p, err := a.placeOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	var done []fileDone
	if mediaType(r) == "multipart/form-data" {
		done, err = a.form(r, p)
	} else {
		done, err = a.listed(r, p)
	}
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, struct {
		Files []fileDone `json:"files"`
	}{done})
}

const manyFix = `send {"files": [{"path": PATH, "data": BASE64}, {"path": PATH, "op": "read"}]}, or a form whose parts are named by their paths`

func (a *API) listed(r *http.Request, p place) ([]fileDone, error) {
	var asked []fileAsked
	err := object(r, manyFix, map[string]func(json.RawMessage) bool{"files": func(raw json.RawMessage) bool {
		var list []json.RawMessage
		if raw[0] != '[' || json.Unmarshal(raw, &list) != nil || len(list) == 0 || len(list) > maxMany {
			return false
		}
		for _, one := range list {
			f, ok := readFile(one)
			if !ok {
				return false
			}
			asked = append(asked, f)
		}
		return true
	}})
	if err != nil {
		return nil, err
	}
	if asked == nil {
		return nil, invalid(manyFix, "files: missing")
	}
	done, left := []fileDone{}, maxAnswer
	for _, f := range asked {
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		one, err := a.file(r.Context(), p, f, &left)
		if err != nil {
			return nil, err
		}
		done = append(done, one)
	}
	return done, nil
}

func readFile(raw json.RawMessage) (f fileAsked, ok bool) {
	hasData := false
	err := fields(raw, manyFix, map[string]func(json.RawMessage) bool{
		"path": func(raw json.RawMessage) (ok bool) { f.path, ok = text(raw); return ok },
		"op":   word(&f.op, 16),
		"data": func(raw json.RawMessage) bool {
			hasData = true
			return raw[0] == '"' && json.Unmarshal(raw, &f.data) == nil
		},
	})
	switch f.op {
	case "":
		f.op = "write"
		return f, err == nil && hasData
	case "write":
		return f, err == nil && hasData
	case "read", "list", "stat", "remove":
		return f, err == nil && !hasData
	}
	return f, false
}

// file does one thing; an error ends the whole request: no call was possible.
func (a *API) file(ctx context.Context, p place, f fileAsked, left *int) (fileDone, error) {
	q := &casemate.FileRequest{Op: f.op, Path: f.path}
	var got bounded
	switch f.op {
	case "write":
		q.Data = bytes.NewReader(f.data)
	case "read":
		got.left = *left
		q.To = &got
	}
	ans, err := a.fileCall(ctx, p, gateway.NewCall(), q)
	if err != nil {
		return fileDone{}, err
	}
	one := fileDone{Path: f.path, Receipt: ans.Receipt, Error: ans.Error}
	switch {
	case got.over:
		one.Error = &problem{casemate.ErrorJSON{Kind: casemate.Invalid, Message: "the files of one answer are larger than 8 MiB together", Fix: "GET it alone"}, "too_large"}
	case ans.Error != nil:
	case f.op == "read":
		data := append([]byte{}, got.Bytes()...)
		one.Data, *left = &data, got.left
	case f.op == "list", f.op == "stat":
		if one.Entries, err = entriesOf(ans); err != nil {
			return one, err
		}
	}
	return one, nil
}

// A bounded keeps what there is room for, and drops the rest.
type bounded struct {
	bytes.Buffer
	left int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.over = b.over || len(p) > b.left; !b.over {
		b.left -= len(p)
		b.Buffer.Write(p)
	}
	return len(p), nil // an error would cancel the call
}

// form writes the parts of a form, as they come.
func (a *API) form(r *http.Request, p place) ([]fileDone, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, invalid(manyFix, "the form could not be read")
	}
	done := []fileDone{}
	for {
		part, err := parts.NextRawPart()
		switch {
		case errors.Is(err, io.EOF) && len(done) > 0:
			return done, nil
		case err != nil || len(done) == maxMany:
			return nil, invalid(manyFix, "the form has no part, more than %d, or is cut short; %d were written", maxMany, len(done))
		}
		ans, err := a.write(r.Context(), p, part.FormName(), &upload{from: part}, func() {})
		if err != nil {
			return nil, err
		}
		done = append(done, fileDone{Path: part.FormName(), Receipt: ans.Receipt, Error: ans.Error})
	}
}
