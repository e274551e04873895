package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental/sysfs"

	"github.com/casemate/casemate/internal/plan"
)

// grants are the folders that a module sees: those that its profile grants, and
// /tmp, /out and /in, which every sandbox has. Each is the root of its own: no
// name and no link leads out of it (package os, Root).
type grants struct{ folders []folder }

type folder struct {
	at   string
	tree *tree
}

// ownFolders are those of every sandbox.
func ownFolders() []plan.Mount {
	return []plan.Mount{{At: "/tmp", Write: true}, {At: "/out", Write: true}, {At: "/in"}}
}

// openGrants opens the folders that a guest is granted, and those that every
// sandbox has, where they are there. What is mounted beneath /.casemate is the
// worker's.
func openGrants(ms, own []plan.Mount) (*grants, error) {
	g := &grants{}
	for _, m := range ms {
		if strings.HasPrefix(m.At, "/.casemate/") {
			continue
		}
		root, err := os.OpenRoot(m.At)
		if err != nil {
			return nil, errors.New("the grant at " + m.At + " is no folder that a module can be given (" + err.Error() + "); WASI gives folders alone: grant the one that the file lies in")
		}
		g.folders = append(g.folders, folder{m.At, &tree{root: root, write: m.Write}})
	}
	for _, o := range own {
		root, err := os.OpenRoot(o.At)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		g.folders = append(g.folders, folder{o.At, &tree{root: root, write: o.Write}})
	}
	return g, nil
}

// config is what an instance is given of them.
func (g *grants) config() wazero.FSConfig {
	c := wazero.NewFSConfig()
	for _, f := range g.folders {
		c = c.(sysfs.FSConfig).WithSysFSMount(f.tree, f.at)
	}
	return c
}
