// Package testenv is what tests that need a real kernel stand on: skips that
// prove themselves, the real binaries, and an ordinary user.
//
// A test is skipped only for what a probe of the host says is unsupported.
// CASEMATE_REQUIRE names, separated by commas, what this machine must have:
// there the same skip is a failure. "process" requires "process" and all
// that is named "process/…".
//
// Binaries and AsUser need TestMain to call Main:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
//
// Limits: AsUser needs root. The copy of a package's testdata for the user
// holds at most 64 MiB.
package testenv

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// An Unsupported is what a probe says of a host that cannot do something.
type Unsupported struct{ What, Why, Fix string }

func (u *Unsupported) Error() string {
	s := u.What + " is not supported here: " + u.Why
	if u.Fix != "" {
		s += " (" + u.Fix + ")"
	}
	return s
}

// Require lets a test go on if err, a probe's answer, is nil. It skips the
// test if err is an Unsupported, unless CASEMATE_REQUIRE names what; any
// other error fails it.
func Require(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if _, ok := errors.AsType[*Unsupported](err); !ok {
		t.Fatalf("the probe of %s failed: %v", what, err)
	}
	if required(os.Getenv("CASEMATE_REQUIRE"), what) {
		t.Fatalf("CASEMATE_REQUIRE names %s: %v", what, err)
	}
	t.Skip(err)
}

func required(list, what string) bool {
	for r := range strings.SplitSeq(list, ",") {
		if r = strings.TrimSpace(r); r != "" && (r == what || strings.HasPrefix(what, r+"/")) {
			return true
		}
	}
	return false
}
