package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/casemate/casemate"
)

// A NameKey is the beginning of the hash of a caller and its name for a
// session.
type NameKey [16]byte

// KeyOf is the key of a name in a record of the event "session".
func KeyOf(d casemate.Digest) (k NameKey, ok bool) {
	b, err := hex.DecodeString(strings.TrimPrefix(string(d), "sha256:"))
	if err != nil || len(b) != sha256.Size {
		return k, false
	}
	return NameKey(b[:len(k)]), true
}

func hashOf(caller Caller, name string) [sha256.Size]byte {
	return sha256.Sum256([]byte(string(caller) + "\x00" + name))
}

func keyOf(caller Caller, name string) NameKey {
	h := hashOf(caller, name)
	return NameKey(h[:len(NameKey{})])
}

// NewCall returns an id that no other call has.
func NewCall() casemate.CallID { return casemate.CallID(random("c_")) }

func random(prefix string) string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

func checkName(name string) error {
	bad := name == "" || len(name) > maxSessionName
	for i := 0; i < len(name); i++ {
		bad = bad || name[i] <= ' ' || name[i] > '~'
	}
	if bad {
		return &casemate.Error{Op: "session", Kind: casemate.Invalid,
			Err: fmt.Errorf("session: the name %.64q is not 1 to %d visible ASCII characters", name, maxSessionName), Fix: "use a UUID, for example"}
	}
	return nil
}
