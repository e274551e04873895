package contain

import (
	"errors"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/plan"
)

// A guest with an image has its files for a root, read-only, in place of the
// host's. What the sandbox adds, mount points and a few files, is a layer above
// those of the image: a folder there hides whatever else the image has by its
// name, so that no link of an image leads a mount elsewhere.

// names adds the files of /etc that say which host this is; the rest is the
// image's.
func (p *planner) names(g plan.Guest) {
	p.dir("etc")
	if Sentry(g) {
		p.dir("sys") // where it mounts, by a path that a link of the image could lead elsewhere
	}
	for _, e := range etcFiles {
		if e[0] == "hosts" || e[0] == "hostname" || e[0] == "resolv.conf" {
			p.add(Step{Kind: File, Path: "etc/" + e[0], Text: e[1]})
		}
	}
}

// imageAccess gives what lies in a folder, where it has no rule of its own, to read
// and to run. What the folders of an image are is known only inside.
const imageAccess = "image"

// onImage puts the steps that make the layer above an image in front of the one
// that mounts it.
func onImage(steps []Step, g plan.Guest) (out []Step) {
	var mounts []Step
	for _, s := range steps {
		switch s.Kind {
		case Private, Stage, Grants, Dir, File, Link:
			out = append(out, s)
		case Grant:
			out = append(out, Step{Kind: Point, Path: s.Path, N: s.N})
			mounts = append(mounts, s)
		default:
			mounts = append(mounts, s)
		}
	}
	out = append(out, Step{Kind: Image, N: 2, Size: int64(len(g.Layers))})
	return append(out, mounts...)
}

// point makes the mount points of a grant, before its root is read-only.
func (in *Inside) point(s Step) error {
	if err := in.mkdir(lowerPath(int(s.N))); err != nil {
		return err
	}
	if in.grants[s.N].folder {
		return in.mkdir(s.Path)
	}
	return in.file(s.Path, "")
}

// image makes an overlay of what was staged and the layers the root.
func (in *Inside) image(s Step) error {
	if err := in.mkdir(staging + "/self"); err != nil {
		return err
	}
	lower := "."
	for i := range s.Size {
		fd, err := in.layer(int(i), int(s.N+i))
		if err != nil {
			return err
		}
		at := staging + "/layer" + strconv.FormatInt(i, 10)
		if err := in.mkdir(at); err != nil {
			return err
		}
		err = in.attachTo(fd, at)
		unix.Close(fd)
		if err != nil {
			return err
		}
		lower += ":" + at
	}
	if err := unix.Fchdir(in.root); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	fd, err := newMount("overlay", readOnly&^unix.MOUNT_ATTR_NOEXEC, "lowerdir", lower, "userxattr", "")
	if err != nil {
		return err
	}
	// Beneath a grant's own overlay, of which two may stand on each other.
	empty, err := clone(in.root, staging+"/empty", readOnly, false)
	if err != nil {
		return err
	}
	defer unix.Close(empty)
	unix.Close(in.root)
	if err := cover(fd); err != nil {
		return err
	}
	in.root, in.imaged = fd, true
	return in.attachTo(empty, staging+"/empty")
}

// layer returns a mount of layer i of the image, which is the carried one of that
// number, from 1.
func (in *Inside) layer(i, carried int) (int, error) {
	if in.Detached {
		if carried > len(in.Carried) {
			return -1, errors.New("a descriptor did not come")
		}
		return in.Carried[carried-1], nil
	}
	m := plan.Mount{Source: in.Guest.Layers[i], Execute: true}
	src, _, err := OpenSource(m)
	if err != nil {
		return -1, err
	}
	defer unix.Close(src)
	return Clone(src, m)
}

// maxEntries bounds the rules that an image's own folders need.
const maxEntries = 4096

// beneath returns a rule for everything in dir but links, which lead to what has
// a rule or has none, and but what has a rule already.
func beneath(dir string, have []Rule) (out []linux.LandlockRule, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open "+dir, err)
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if len(names) > maxEntries {
		return nil, errors.New("the image has too many files in " + dir)
	}
	if err != nil && len(names) > 0 {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		path := dir + name
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, os.NewSyscallError("fstatat", err)
		}
		folder := st.Mode&unix.S_IFMT == unix.S_IFDIR
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFLNK,
			slices.ContainsFunc(have, func(r Rule) bool { return r.Path == path }):
		case folder && slices.ContainsFunc(have, func(r Rule) bool { return Within(r.Path, path) }):
			inner, err := beneath(path+"/", have)
			if err != nil {
				return nil, err
			}
			out = append(append(out, linux.LandlockRule{Path: path, Access: linux.LandlockList}), inner...)
		default:
			out = append(out, linux.LandlockRule{Path: path, Access: linux.LandlockReadExec})
		}
		if len(out) > maxEntries {
			return nil, errors.New("the image has too many files beside what is granted")
		}
	}
	return out, nil
}
