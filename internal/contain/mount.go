package contain

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Everything is mounted by descriptor (open_tree, fsmount, move_mount), never
// by a path that somebody could move meanwhile. Linux 5.12 has all of it.

const (
	readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	data     = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
)

// private makes sure that no mount goes back to the host.
func (in *Inside) private() error {
	return os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

// stage mounts the new root over a folder that every host has, and of which
// nothing is granted: a user's grants are opened by their path after this.
func (in *Inside) stage() error {
	fd, err := newMount("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "size", "16m", "mode", "0755")
	if err != nil {
		return err
	}
	if err := cover(fd); err != nil {
		return err
	}
	in.root = fd
	for _, d := range []string{staging, staging + "/scratch", staging + "/empty"} {
		if err := in.mkdir(d); err != nil {
			return err
		}
	}
	return nil
}

// cover mounts a root to be over what is at one of two places.
func cover(fd int) (err error) {
	for _, at := range []string{"/proc", "/sys"} {
		if err = attach(fd, unix.AT_FDCWD, at); err == nil {
			break
		}
	}
	return err
}

const staging = ".stage"

// newMount returns a detached mount of a new filesystem; opts are pairs, an
// empty value is a flag.
func newMount(fs string, attr int, opts ...string) (int, error) {
	c, err := unix.Fsopen(fs, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen "+fs, err)
	}
	defer unix.Close(c)
	for i := 0; i+1 < len(opts); i += 2 {
		if opts[i+1] == "" {
			err = unix.FsconfigSetFlag(c, opts[i])
		} else {
			err = unix.FsconfigSetString(c, opts[i], opts[i+1])
		}
		if err != nil {
			return -1, os.NewSyscallError("fsconfig "+fs+" "+opts[i], err)
		}
	}
	if err := unix.FsconfigCreate(c); err != nil {
		return -1, os.NewSyscallError("fsconfig "+fs+" create", err)
	}
	fd, err := unix.Fsmount(c, unix.FSMOUNT_CLOEXEC, attr)
	return fd, os.NewSyscallError("fsmount "+fs, err)
}

func attach(fd, dir int, path string) error {
	return os.NewSyscallError("move_mount", unix.MoveMount(fd, "", dir, path, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// attachTo attaches at a path of the root. No link in a grant that is there
// already can lead it elsewhere.
func (in *Inside) attachTo(fd int, path string) error {
	target, err := unix.Openat2(in.root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH})
	if err != nil {
		return os.NewSyscallError("openat2", err)
	}
	defer unix.Close(target)
	return onto(fd, target)
}

func (in *Inside) mountNew(fs, path string, attr int, opts ...string) error {
	fd, err := newMount(fs, attr, opts...)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return in.attachTo(fd, path)
}

// clone returns a detached copy of what fd refers to, with the attributes
// added: for a folder with everything that is mounted below it.
func clone(dir int, path string, attr uint64, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_SYMLINK_NOFOLLOW)
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	set := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
		set |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(dir, path, flags)
	if err != nil {
		return -1, os.NewSyscallError("open_tree", err)
	}
	if err := unix.MountSetattr(fd, "", set, &unix.MountAttr{Attr_set: attr}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("mount_setattr", err)
	}
	return fd, nil
}

func (in *Inside) bind(s Step) error {
	if s.N > 0 && in.Detached { // it came with the setup
		if int(s.N) > len(in.Carried) {
			return errors.New("a descriptor did not come")
		}
		return in.attachTo(in.Carried[s.N-1], s.Path)
	}
	attr := uint64(readOnly)
	if s.Exec {
		attr &^= unix.MOUNT_ATTR_NOEXEC
	}
	fd, err := clone(unix.AT_FDCWD, s.Text, attr, true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return in.attachTo(fd, s.Path)
}

// deviceNumbers are the kernel's (Documentation/admin-guide/devices.txt): a
// path that is something else is refused.
var deviceNumbers = map[string]uint64{
	"/dev/null": unix.Mkdev(1, 3), "/dev/zero": unix.Mkdev(1, 5), "/dev/full": unix.Mkdev(1, 7),
	"/dev/random": unix.Mkdev(1, 8), "/dev/urandom": unix.Mkdev(1, 9),
	"/dev/tty": unix.Mkdev(5, 0),
}

func openDevice(path string) (int, error) {
	number, ok := deviceNumbers[path]
	if !ok {
		return -1, errors.New(path + " is no device that a sandbox gets")
	}
	return openNumbered(unix.AT_FDCWD, path, number)
}

func openNumbered(dir int, path string, number uint64) (int, error) {
	fd, err := unix.Openat(dir, path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("open", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != number {
		unix.Close(fd)
		return -1, errors.New(path + " is not the device that it should be")
	}
	return fd, nil
}

// bindDevice puts the device at a path of the root. It is the one mount
// without nodev.
func (in *Inside) bindDevice(device, path string) error {
	dev, err := openDevice(device)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	fd, err := clone(dev, "", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return in.attachTo(fd, path)
}

func (in *Inside) device(s Step) error { return in.bindDevice(s.Text, s.Path) }

// mask hides a file of /proc behind /dev/null, and a folder behind an empty
// one. The target is opened and checked to lie on the sandbox's procfs.
func (in *Inside) mask(path string) error {
	target, folder, err := in.openProc(path)
	if err == unix.ENOENT {
		return nil // this /proc does not have it
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	var fd int
	if folder {
		fd, err = clone(in.root, staging+"/empty", readOnly, false)
	} else {
		fd, err = in.null()
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return onto(fd, target)
}

// null returns another mount of the sandbox's own /dev/null, with what that was
// mounted with. It is checked to be the device; nothing but this process can
// change what lies there.
func (in *Inside) null() (int, error) {
	if in.dev == 0 {
		fd, err := openNumbered(in.root, "dev/null", deviceNumbers["/dev/null"])
		if err != nil {
			return -1, err
		}
		in.dev = fd
	}
	fd, err := unix.OpenTree(in.dev, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	return fd, os.NewSyscallError("open_tree", err)
}

func onto(fd, target int) error {
	return os.NewSyscallError("move_mount", unix.MoveMount(fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

func (in *Inside) openProc(path string) (fd int, folder bool, err error) {
	fd, err = unix.Openat2(in.root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH})
	if err != nil {
		return -1, false, err
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PROC_SUPER_MAGIC || unix.Fstat(fd, &st) != nil {
		unix.Close(fd)
		return -1, false, errors.New("not on procfs")
	}
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// count writes a bound of this user namespace (user_namespaces(7)), which a
// kernel without its facility does not have.
func (in *Inside) count(path string, most int64) error {
	fd, err := unix.Openat2(in.root, path, &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH})
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("openat2", err)
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("not on procfs")
	}
	_, err = unix.Write(fd, strconv.AppendInt(nil, most, 10))
	return os.NewSyscallError("write", err)
}

func (in *Inside) readOnly(path string) error {
	target, _, err := in.openProc(path)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	fd, err := clone(target, "", readOnly, false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return onto(fd, target)
}

// scratch mounts the one filesystem that holds what the guest writes: /tmp,
// /out, /dev/shm and the upper layers of its write grants together.
func (in *Inside) scratch(size int64) error {
	return in.mountNew("tmpfs", staging+"/scratch", data, "size", strconv.FormatInt(size, 10), "nr_inodes", strconv.FormatInt(inodes(size), 10), "mode", "0700")
}

// inodes is how many files a scratch of size bytes may hold.
func inodes(size int64) int64 { return min(max(size/4096, 4096), 1<<20) }

func (in *Inside) sub(path, name string) error {
	from := staging + "/scratch/" + name
	if err := in.mkdir(from); err != nil {
		return err
	}
	if err := unix.Fchmodat(in.root, from, 0o700, 0); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	fd, err := clone(in.root, from, data, false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return in.attachTo(fd, path)
}

// input is sub for a folder that the guest only reads; what was mounted to write
// it is the last of the upper folders.
func (in *Inside) input(path, name string) error {
	from := staging + "/scratch/" + name
	if err := in.mkdir(from); err != nil {
		return err
	}
	way, err := clone(in.root, from, data, false)
	if err != nil {
		return err
	}
	in.uppers = append(in.uppers, way)
	fd, err := clone(in.root, from, readOnly, false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return in.attachTo(fd, path)
}

func (in *Inside) mkdir(path string) error {
	if err := unix.Mkdirat(in.root, path, 0o755); err != nil && err != unix.EEXIST {
		return os.NewSyscallError("mkdir", err)
	}
	return nil
}

// file writes a file of the root; "@python" and "@node" are their runners.
func (in *Inside) file(path, text string) error {
	b := []byte(text)
	if len(text) > 0 && text[0] == '@' {
		b = in.Runner(text[1:])
	}
	fd, err := unix.Openat(in.root, path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
	if err == unix.EEXIST && in.imaged && text == "" {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		b = b[n:]
	}
	return nil
}

// seal takes the staging mounts away, of which empty folders stay, and makes
// the root read-only.
func (in *Inside) seal() error {
	if err := unix.Fchdir(in.root); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	for i := range in.grants {
		if in.lowerGoes(i) {
			if err := unix.Unmount(lowerPath(i), unix.MNT_DETACH); err != nil {
				return os.NewSyscallError("umount", err)
			}
		}
	}
	if err := unix.Unmount(staging+"/scratch", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(in.root, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
}

// pivot makes the staged tree the root and lets go of the host's.
func (in *Inside) pivot() error {
	if err := unix.Fchdir(in.root); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	// The old root now lies over the new one, at ".".
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	unix.Close(in.root)
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}
