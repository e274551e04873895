// Package owned says whose a program is that Casemate runs outside of every
// sandbox, or around one: nobody but the caller and root may be able to change it,
// and no tool.
package owned

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Program says why others than the caller and root could change what is run at
// path, which is absolute: the file that it leads to and every folder above that,
// but for sticky ones, are for these two alone to write. Grants are the paths of
// the host that tools may write: none may hold the program, or a link to it.
func Program(path string, grants []string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, p := range []string{path, filepath.Clean(real)} {
		for _, g := range grants {
			if p == g || strings.HasPrefix(p, strings.TrimSuffix(g, "/")+"/") {
				return fmt.Errorf("%s lies in the write grant %s: a tool could change what runs", p, g)
			}
		}
	}
	for p := real; ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return fmt.Errorf("%s belongs to somebody else", p)
		}
		if info.Mode()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
			return fmt.Errorf("%s can be written by others", p)
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}
