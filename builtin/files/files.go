// Package files is the tools of builtin: files: five functions on the files
// and folders of the tool's grants, each a tool of its own. A planner gets
// these functions, and not open.
//
//	read_file     path, offset, limit   the text of a file; lines from offset, at most limit
//	write_file    path, content         replace a file, or create it and its folders
//	edit_file     path, old, new        replace the one place where old stands
//	list_folder   path                  name, type and size, by name
//	search_files  path, pattern, text   files by a pattern of their names, and lines that hold text
//
// They run in the sandbox, whose kernel walls have the same grants; what is
// here is a second check and the error that tells what to do. A path is
// absolute and lies in a grant by its components (/work is not /work-evil).
// It is opened component by component, and no symbolic link is followed:
// openat2 would do, but a guest has it not, for a filter cannot see its
// arguments. Files that are neither regular nor folders are refused.
//
// Bounds: texts of 8 MiB, 1,000 names of a folder, and of a search 200
// results, 100,000 files seen and 10 seconds; what is cut short says so.
package files

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/plan"
)

const maxText = 8 << 20

// Do runs the function fn with args on the granted mounts and returns its
// text. An error is for the planner: it says what to do, and names nothing
// outside of the grants.
func Do(fn string, args []guest.Pair, mounts []plan.Mount) (text string, err error) {
	c := call{args: args}
	f, ok := map[string]func(*call, place) (string, error){
		"read_file": read, "write_file": write, "edit_file": edit, "list_folder": list, "search_files": search}[fn]
	if !ok {
		return "", errors.New("unknown function " + fn)
	}
	name, err := c.need("path")
	if err != nil {
		return "", err
	}
	p, err := locate(name, mounts)
	if err != nil {
		return "", err
	}
	if (fn == "write_file" || fn == "edit_file") && !p.mount.Write {
		return "", errors.New(p.path + ": " + p.mount.At + " is granted for reading only")
	}
	return f(&c, p)
}

// A call is the arguments of one call.
type call struct{ args []guest.Pair }

func (c *call) need(name string) (string, error) {
	v, ok := guest.Get(c.args, name)
	if !ok {
		return "", errors.New("the argument " + name + " is missing")
	}
	return v, nil
}

// number returns a positive whole number, or def where it is left out.
func (c *call) number(name string, def int) (int, error) {
	v, ok := guest.Get(c.args, name)
	if !ok {
		return def, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, errors.New("the argument " + name + " is " + strconv.Quote(v) + "; give a whole number from 1")
	}
	return n, nil
}

// A place is a path in a grant.
type place struct {
	path  string // clean
	mount plan.Mount
}

// locate finds the grant that name lies in: of several the innermost.
func locate(name string, mounts []plan.Mount) (place, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return place{}, errors.New("the path holds a NUL byte")
	}
	p := place{path: path.Clean(name)}
	var granted []string
	found := false
	for _, m := range mounts {
		if m.Prefix {
			continue
		}
		granted = append(granted, m.At)
		if within(p.path, m.At) && (!found || len(m.At) > len(p.mount.At)) {
			p.mount, found = m, true
		}
	}
	switch {
	case found:
		return p, nil
	case len(granted) == 0:
		return place{}, errors.New(strconv.Quote(name) + " is out of reach: the tool has no grant; its operator can add one under filesystem")
	}
	return place{}, errors.New(strconv.Quote(name) + " is out of reach; give an absolute path in " + strings.Join(granted, " or "))
}

// within compares by component.
func within(p, root string) bool {
	return p == root || root == "/" || strings.HasPrefix(p, root) && p[len(root)] == '/'
}

// parent opens the folder that p lies in and returns p's name in it. With
// create it makes the folders that are missing, inside the grant alone.
func (p place) parent(create bool) (fd int, name string, err error) {
	parts := strings.Split(strings.Trim(p.path, "/"), "/")
	name = parts[len(parts)-1]
	if name == "" {
		name = "."
	}
	fd, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", err
	}
	at := ""
	for _, part := range parts[:len(parts)-1] {
		at += "/" + part
		next, err := openFolder(fd, part, unix.O_PATH)
		if err == unix.ENOENT && create && at != p.mount.At && within(at, p.mount.At) {
			if err = unix.Mkdirat(fd, part, 0o777); err == nil || err == unix.EEXIST {
				next, err = openFolder(fd, part, unix.O_PATH)
			}
		}
		unix.Close(fd)
		if err != nil {
			return -1, "", explain(at, err)
		}
		fd = next
	}
	return fd, name, nil
}

func openFolder(dir int, name string, flags int) (int, error) {
	return unix.Openat(dir, name, flags|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// explain says what err means for the file or folder at path.
func explain(path string, err error) error {
	what := ""
	switch err {
	case unix.ENOENT:
		what = "there is no such file or folder; list_folder shows what is there"
	case unix.ENOTDIR:
		what = "is not a folder, or is a link, which is not followed; name the place that it leads to, if that is granted"
	case unix.ELOOP:
		what = "is a link, which is not followed; name the place that it leads to, if that is granted"
	case unix.EISDIR:
		what = "is a folder; list_folder shows what is in it"
	case unix.EACCES, unix.EPERM:
		what = "its permissions do not allow that"
	case unix.EROFS:
		what = "is granted for reading only"
	case unix.ENOSPC, unix.EDQUOT:
		what = "the tool's disk is full; its operator can raise disk"
	case unix.ENAMETOOLONG:
		what = "the name is too long"
	case unix.ENXIO, unix.ENODEV:
		what = notRegular
	case nil:
		return nil
	default:
		what = err.Error()
	}
	return errors.New(path + ": " + what)
}

const notRegular = "is neither a regular file nor a folder"
