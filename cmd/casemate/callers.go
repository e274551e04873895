package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog"
	"github.com/casemate/casemate/gateway"
)

// minToken is the fewest characters of a token; the one we make has 26.
const minToken = 16

// token returns what HTTP clients have to show: CASEMATE_TOKEN, or a random
// one that the state folder keeps.
func (a *app) token(state string) (string, error) {
	if t, ok := os.LookupEnv("CASEMATE_TOKEN"); ok {
		if len(t) < minToken || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", invalid("serve", "use a long random one: openssl rand -hex 16", "CASEMATE_TOKEN is not %d or more printable characters without a space", minToken)
		}
		return t, nil
	}
	file := filepath.Join(state, "token")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.WriteString(rand.Text() + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: err, Fix: "make the state folder writable, or set CASEMATE_TOKEN"}
	}
	t, err := tokenFile(file, "remove it: a new token is made")
	if err == nil {
		a.note("the bearer token is in %s", file)
	}
	return t, err
}

// tokenFile reads the token in a file that only its user reads.
func tokenFile(file, fix string) (string, error) {
	if fi, err := os.Lstat(file); err != nil || !fi.Mode().IsRegular() || fi.Mode().Perm()&0o077 != 0 {
		return "", &casemate.Error{Op: "serve", Kind: casemate.Denied, Err: fmt.Errorf("%s is not a file of mode 0600", file), Fix: fix}
	}
	b, err := head(file, 1024)
	if err != nil {
		return "", &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: err}
	}
	t := strings.TrimSpace(string(b))
	if len(t) < minToken {
		return "", &casemate.Error{Op: "serve", Kind: casemate.Internal, Err: fmt.Errorf("%s holds no token of %d or more characters", file, minToken), Fix: fix}
	}
	return t, nil
}

// credentials are the callers of a configuration, as the gateway knows them;
// a token that lies in a file is known by its hash alone from here on.
func credentials(callers map[string]catalog.Caller) ([]gateway.Credential, error) {
	var out []gateway.Credential
	for _, name := range slices.Sorted(maps.Keys(callers)) {
		c := callers[name]
		if c.TokenFile != "" {
			t, err := tokenFile(c.TokenFile, "write its token to it and make it yours alone: chmod 600 "+c.TokenFile)
			if err != nil {
				return nil, err
			}
			sum := sha256.Sum256([]byte(t))
			c.SHA256 = hex.EncodeToString(sum[:])
		}
		out = append(out, gateway.Credential{Name: gateway.Caller(name), SHA256: c.SHA256, Tools: c.Tools, Contexts: c.Contexts})
	}
	return out, nil
}
