// Package files is the tools of builtin: files.
package files

import (
	"errors"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

// Do runs the function fn with args on the granted mounts.
func Do(fn string, args []guest.Pair, mounts []plan.Mount) (text string, err error) {
	return "", errors.New("unknown function " + fn)
}
