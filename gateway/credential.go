package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/casemate/casemate"
)

// DefaultCaller is the caller of Config.Token, and of who needs no token; no
// other credential has its name, or it would have its sessions too.
const DefaultCaller Caller = "default"

// A Credential is one caller that may come in, and what it may call. A tool
// that it may not call does not exist for it.
type Credential struct {
	Name   Caller `json:"name"`   // 1 to 64 of [A-Za-z0-9_.-]; of no other credential
	SHA256 string `json:"sha256"` // of the token: 64 lower-case hexadecimal digits

	// Tools are names of tools, or beginnings of names with a "*" behind; nil is
	// all tools, and an empty list none.
	Tools []string `json:"tools"`

	// Contexts are what the caller may narrow itself to, by the query
	// parameter context: a name, and the tools as above that are left.
	Contexts map[string][]string `json:"contexts,omitempty"`

	context []string // of the context that was chosen
	chosen  bool
}

// May says whether the caller may call a tool.
func (c Credential) May(tool casemate.ToolName) bool {
	return (c.Tools == nil || covers(c.Tools, tool)) && (!c.chosen || covers(c.context, tool))
}

// All says whether there is no tool that the caller may not call.
func (c Credential) All() bool { return c.Tools == nil && !c.chosen }

// In returns c narrowed to one of its contexts, or c for "". A context that
// the operator did not list is an Error of kind Denied.
func (c Credential) In(context string) (Credential, error) {
	if context == "" {
		return c, nil
	}
	tools, ok := c.Contexts[context]
	if !ok {
		return Credential{Name: c.Name, Tools: []string{}}, &casemate.Error{Op: "context", Kind: casemate.Denied,
			Err: fmt.Errorf("the operator lists no context %.64q for this caller", context), Fix: "list it under host.callers"}
	}
	c.context, c.chosen, c.Contexts = tools, true, nil // one is not left for another
	return c, nil
}

func covers(patterns []string, tool casemate.ToolName) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if begin, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(string(tool), begin)
		}
		return p == string(tool)
	})
}

type credentialKey struct{}

// CredentialOf returns the credential of a request that passed the door,
// narrowed to the context that the request chose. Of any other request it is
// one that may call nothing.
func CredentialOf(ctx context.Context) Credential {
	if c, ok := ctx.Value(credentialKey{}).(Credential); ok {
		return c
	}
	return Credential{Tools: []string{}}
}

// CallerOf returns the caller of a request that passed the door; it is empty
// for any other.
func CallerOf(ctx context.Context) Caller { return CredentialOf(ctx).Name }

// credentials are c's, with the token's own first.
func (c *Config) credentials() ([]known, error) {
	bad := func(fix, format string, a ...any) error {
		return &casemate.Error{Op: "serve", Kind: casemate.Invalid, Err: fmt.Errorf(format, a...), Fix: fix}
	}
	var all []known
	if c.Token != "" || len(c.Credentials) == 0 && c.Local == nil {
		if len(c.Token) < minToken {
			return nil, bad(fmt.Sprintf("use at least %d random characters, for example: openssl rand -hex 32", minToken), "token: %d bytes are too few", len(c.Token))
		}
		all = append(all, known{Credential{Name: DefaultCaller}, sha256.Sum256([]byte(c.Token))})
	}
	for _, k := range c.Credentials {
		sum, err := hex.DecodeString(k.SHA256)
		if err != nil || len(sum) != sha256.Size || strings.ToLower(k.SHA256) != k.SHA256 {
			return nil, bad("printf %s TOKEN | sha256sum", "caller %q: its token_sha256 is not 64 lower-case hexadecimal digits", k.Name)
		}
		if k.Name == "" || len(k.Name) > 64 || strings.Trim(string(k.Name), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return nil, bad("name it otherwise", "caller %.80q: the name is not 1 to 64 of [A-Za-z0-9_.-]", k.Name)
		}
		one := known{k, [sha256.Size]byte(sum)}
		if k.Name == DefaultCaller || slices.ContainsFunc(all, func(o known) bool { return o.Name == k.Name || o.sum == one.sum }) {
			return nil, bad("give each caller a name and a token of its own", "caller %q: another has its name or its token", k.Name)
		}
		all = append(all, one)
	}
	return all, nil
}

// A known is a credential and the hash that its token has.
type known struct {
	Credential
	sum [sha256.Size]byte
}

// authorized finds the credential of r. It compares the hash with every one
// that is known, in constant time, so that time tells nothing.
func (d *door) authorized(r *http.Request) (Credential, bool) {
	hs := r.Header.Values("Authorization")
	if len(hs) == 0 && d.Local != nil {
		return *d.Local, true
	}
	if len(hs) != 1 {
		return Credential{}, false
	}
	scheme, token, _ := strings.Cut(hs[0], " ")
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i, k := range d.known {
		if subtle.ConstantTimeCompare(sum[:], k.sum[:]) == 1 {
			found = i
		}
	}
	if found < 0 || !strings.EqualFold(scheme, "Bearer") {
		return Credential{}, false
	}
	return d.known[found].Credential, true
}

// narrow takes the context that r asks for, by one query parameter. A query
// that cannot be read may have asked for one.
func narrow(c Credential, r *http.Request) (Credential, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Credential{}, &casemate.Error{Op: "context", Kind: casemate.Invalid, Err: errors.New("the query cannot be read"), Fix: "escape it"}
	}
	names := q["context"]
	if len(names) > 1 || len(names) == 1 && names[0] == "" {
		return Credential{}, &casemate.Error{Op: "context", Kind: casemate.Invalid, Err: fmt.Errorf("the query names %d contexts", len(names)), Fix: "name one, or none"}
	}
	return c.In(cmp.Or(append(names, "")...))
}
