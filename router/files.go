package router

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// fileOps are what can be asked about the files of a guest.
var fileOps = [...]string{"read", "write", "list", "stat", "remove"}

// fileDispatch asks the init of the guest about its files.
func (k *call) fileDispatch() dispatch {
	f := k.Files
	d := dispatch{frame: guest.Files, limit: maxListed, pairs: []guest.Pair{{Key: "op", Value: f.Op}, {Key: "path", Value: f.Path}}}
	switch f.Op {
	case "read":
		d.output = func(_ int, b []byte) error {
			_, err := f.To.Write(b)
			return err
		}
	case "write":
		d.stdin, d.feeds = f.Data, true
	}
	return d
}

const maxListed = 16 << 20 // bytes of what list answers

// checkFiles says what is wrong with a request for files.
func checkFiles(t casemate.ToolName, f *casemate.FileRequest) error {
	invalid := func(format string, a ...any) error {
		return &casemate.Error{Op: "call", Tool: t, Kind: casemate.Invalid, Err: fmt.Errorf("files: "+format, a...), Fix: "ask by one of " + strings.Join(fileOps[:], ", ") + ", with a path"}
	}
	switch {
	case !slices.Contains(fileOps[:], f.Op):
		return invalid("there is no operation %s", quote(f.Op))
	case f.Op == "read" && f.To == nil:
		return invalid("read without a place for the bytes")
	case f.Op == "write" && f.Data == nil:
		f.Data = io.MultiReader() // an empty file
	}
	return nil
}

// A fileEntry is one file as list and stat say it.
type fileEntry struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"` // file, folder, link, other
	Size     int64     `json:"size"` // bytes, of a file
	Modified time.Time `json:"modified"`
	Mode     string    `json:"mode"` // the permission bits, octal
}

// filesResult is the result of a request for files: {"entries": […]} of list
// and stat.
func filesResult(f *casemate.FileRequest, rp *reply) (*casemate.Result, error) {
	res := &casemate.Result{Content: []casemate.Content{}}
	if f.Op != "list" && f.Op != "stat" || !rp.done || rp.failed {
		return res, nil
	}
	es := []fileEntry{}
	for _, v := range rp.values {
		some, err := guest.ParseEntries(v)
		if err != nil {
			return res, &casemate.Error{Op: "call", Kind: casemate.ToolFailed, Err: errors.New(strings.ReplaceAll(err.Error(), "\n", ": "))}
		}
		for _, e := range some {
			es = append(es, fileEntry{strings.ToValidUTF8(e.Name, "\uFFFD"), e.Kind, e.Size, time.Unix(0, e.Modified).UTC(), fmt.Sprintf("%04o", e.Mode)})
		}
	}
	b, err := encode(map[string]any{"entries": es})
	if err != nil {
		return res, err
	}
	res.Structured = b
	return res, nil
}
