package router

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/casemate/casemate"
)

// The bounds of the inputs of one call.
const (
	maxInputs     = 32
	maxInputBytes = 64 << 20 // in all
	maxInputName  = 255
)

// checkInputs says whether a call may have those inputs: they go into a sandbox
// that serves it alone, and runs programs.
func (t *tool) checkInputs(c casemate.Call) error {
	refuse := func(fix, format string, a ...any) error {
		return &casemate.Error{Op: "call", Tool: t.Name, Kind: casemate.Invalid, Err: fmt.Errorf("inputs: "+format, a...), Fix: fix}
	}
	if len(c.Inputs) == 0 {
		return nil
	}
	switch {
	case t.Run.MCP != nil || t.Run.Builtin != "" || c.Files != nil:
		return refuse("pass it as an argument", "a tool of this kind has no place for files")
	case c.Session != "" && t.profile.Scope == casemate.ScopeSession:
		return refuse("write the files of the session instead", "its sandbox serves a session")
	case len(c.Inputs) > maxInputs:
		return refuse("pass fewer", "there are %d, at most %d", len(c.Inputs), maxInputs)
	}
	seen, sum := map[string]bool{}, 0
	for _, in := range c.Inputs {
		n := in.Name
		switch {
		case n == "" || len(n) > maxInputName || n == "." || n == ".." || !utf8.ValidString(n) || strings.ContainsFunc(n, func(r rune) bool { return r == '/' || r < 0x20 || r == 0x7f }):
			return refuse("name it as a file is named", "the name %s is not 1 to %d bytes of text without a slash", quote(n), maxInputName)
		case seen[n]:
			return refuse("give each a name of its own", "two have the name %s", quote(n))
		}
		seen[n] = true
		if sum += len(in.Data); sum > maxInputBytes {
			return refuse("pass less, or grant the folder", "they have more than %s", size(maxInputBytes))
		}
	}
	return nil
}

// bytes is what the call holds of its caller's while it runs.
func (k *call) bytes() int {
	n := len(k.Arguments)
	for _, in := range k.Inputs {
		n += len(in.Data)
	}
	return n
}

// inputDigests are the inputs as records name them.
func inputDigests(ins []casemate.Input) (out []casemate.InputJSON) {
	for _, in := range ins {
		sum := sha256.Sum256(in.Data)
		out = append(out, casemate.InputJSON{Name: in.Name, Digest: casemate.Digest("sha256:" + hex.EncodeToString(sum[:])), Bytes: len(in.Data)})
	}
	return out
}

// given starts a guest for the call alone, within its limits, and gives it the
// inputs: none that waits has a place for them.
func (k *call) given(ctx context.Context) (*live, error) {
	grant := k.grant()
	grant.Tool, grant.Inputs = k.key(), true
	sb, err := start(ctx, k.tool, grant)
	if err != nil {
		return nil, err
	}
	g := k.r.own(k.tool, grant.Tool, sb)
	d, ok := sb.(casemate.Donor)
	if !ok {
		g.close()
		return nil, &casemate.Error{Op: "call", Kind: casemate.Unsupported, Err: fmt.Errorf("inputs: the backend %s takes none", k.out.Backend), Fix: "pass it as an argument"}
	}
	for _, in := range k.Inputs {
		w, err := d.Donate(ctx, in.Name)
		if err == nil {
			_, err = w.Write(in.Data)
			err = errors.Join(err, w.Close())
		}
		if err == nil {
			continue
		}
		g.close()
		if ctx.Err() != nil {
			return nil, cancelled(ctx, k.Tool)
		}
		if errors.Is(err, syscall.ENOSPC) {
			return nil, &casemate.Error{Op: "call", Kind: casemate.Invalid, Err: errors.New("inputs: they do not fit on its disk"), Fix: "pass less, or raise disk in the manifest"}
		}
		return nil, err
	}
	return g, nil
}
