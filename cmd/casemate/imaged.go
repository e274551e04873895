package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/casemate/casemate"
)

// imageFolders are where the programs of an image lie: those of the PATH that a
// guest has.
var imageFolders = [...]string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// imaged names the interpreter of a tool in its image: the one that its manifest
// names, or the first on PATH there. What an image says of itself is not read.
func imaged(t *casemate.Tool, layers []string) error {
	for language, at := range map[string]**casemate.Script{"python": &t.Run.Python, "node": &t.Run.Node} {
		if *at == nil {
			continue
		}
		s := **at
		*at = &s
		if s.Interpreter == "" {
			s.Interpreter = programOf(layers, names[language])
		} else if !holdsFile(layers, s.Interpreter) {
			return &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Unsupported, Err: fmt.Errorf("there is no %s in its image", s.Interpreter), Fix: "name another interpreter, or another image"}
		}
		if s.Interpreter == "" {
			return &casemate.Error{Op: "load", Tool: t.Name, Kind: casemate.Unsupported, Err: fmt.Errorf("there is no %s in its image", strings.Join(names[language], " or ")), Fix: "name another image, or the interpreter: run: {" + language + ": {interpreter: /path/in/the/image}}"}
		}
	}
	return nil
}

// programOf is the first of the programs of these names on an image's PATH.
func programOf(layers, names []string) string {
	for _, dir := range imageFolders {
		for _, name := range names {
			if p := path.Join(dir, name); holdsFile(layers, p) {
				return p
			}
		}
	}
	return ""
}

// holdsFile says whether there is a file or a link of that absolute path in an
// image. It looks beneath the image's folders alone: of a link that leads out of
// them it says that there is none. What a link at the path itself leads to is
// seen only inside.
func holdsFile(layers []string, p string) bool {
	for _, dir := range layers {
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		info, err := root.Lstat(strings.TrimPrefix(p, "/"))
		root.Close()
		if err == nil {
			return info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0
		}
	}
	return false
}
