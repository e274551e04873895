package catalog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/casemate/casemate"
)

// Find says which configuration to use: the file of --config, that of
// CASEMATE_CONFIG, casemate.yaml (or casemate.json) of cwd, then
// casemate/casemate.yaml of userConfigDir; an empty argument is left out.
// trusted says that the operator named the file or that it is the user's own.
// One that merely lies in cwd is not trusted, and is never passed over for
// the next: see Trust.
func Find(explicit, env, cwd, userConfigDir string) (path string, trusted bool, err error) {
	for _, named := range []string{explicit, env} {
		if named != "" {
			if !filepath.IsAbs(named) {
				named = filepath.Join(cwd, named)
			}
			return named, true, nil
		}
	}
	user := ""
	if userConfigDir != "" {
		user = filepath.Join(userConfigDir, "casemate", "casemate.yaml")
	}
	var candidates []string
	if cwd != "" {
		candidates = append(candidates, filepath.Join(cwd, "casemate.yaml"), filepath.Join(cwd, "casemate.json"))
	}
	if user != "" {
		candidates = append(candidates, user)
	}
	for _, p := range candidates {
		switch _, err := os.Lstat(p); {
		case err == nil:
			return p, p == user, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", false, &casemate.Error{Op: "load", Kind: casemate.Invalid, Err: errors.New(visible(p) + " " + cannot(err))}
		}
	}
	return "", false, &casemate.Error{Op: "load", Kind: casemate.Invalid, Err: errors.New("no configuration: there is no casemate.yaml here and none of the user's own"),
		Fix: "run casemate init, or name a file with --config"}
}
