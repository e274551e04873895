package cgroup

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of one file: a hundred thousand process ids.
const maxFile = 1 << 20

// A folder is one open group.
type folder struct {
	f    *os.File
	path string // for messages
}

// openMount opens a mount point and makes sure that cgroups are mounted there
// and nothing over them.
func openMount(path string, v2 bool) (folder, error) {
	d, err := openFolder(unix.AT_FDCWD, path, path)
	if err != nil {
		return folder{}, err
	}
	var st unix.Statfs_t
	err = unix.Fstatfs(d.fd(), &st)
	magic := int64(unix.CGROUP_SUPER_MAGIC)
	if v2 {
		magic = unix.CGROUP2_SUPER_MAGIC
	}
	if err == nil && int64(st.Type) != magic {
		err = errors.New("not a cgroup filesystem")
	}
	if err != nil {
		d.close()
		return folder{}, err
	}
	return d, nil
}

func openFolder(at int, name, path string) (folder, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	if at != unix.AT_FDCWD {
		how.Resolve |= unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV
	}
	fd, err := retry(func() (int, error) { return unix.Openat2(at, name, &how) })
	if err != nil {
		return folder{}, err
	}
	return folder{os.NewFile(uintptr(fd), path), path}, nil
}

// retry repeats a call that a signal or a concurrent rename interrupted.
func retry(call func() (int, error)) (int, error) {
	for n := 0; ; n++ {
		v, err := call()
		if n == 100 || err != unix.EINTR && err != unix.EAGAIN {
			return v, err
		}
	}
}

func (d folder) fd() int { return int(d.f.Fd()) }

func (d folder) close() { d.f.Close() }

func (d folder) open(name string) (folder, error) {
	return openFolder(d.fd(), name, d.path+"/"+name)
}

// make makes a fresh child group.
func (d folder) make(name string) (folder, error) {
	if err := unix.Mkdirat(d.fd(), name, 0o755); err != nil {
		return folder{}, err
	}
	// Whatever the umask: a container's runtime in the group looks into it.
	if err := unix.Fchmodat(d.fd(), name, 0o755, 0); err != nil {
		return folder{}, err
	}
	return d.open(name)
}

func (d folder) file(name string, flags uint64) (*os.File, error) {
	fd, err := d.raw(name, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), d.path+"/"+name), nil
}

// raw is file without the system calls that an os.File costs.
func (d folder) raw(name string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV}
	return retry(func() (int, error) { return unix.Openat2(d.fd(), name, &how) })
}

func (d folder) read(name string) (string, error) {
	fd, err := d.raw(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var few [512]byte
	b := few[:0]
	for len(b) < maxFile {
		b = slices.Grow(b, len(few))
		n, err := retry(func() (int, error) { return unix.Read(fd, b[len(b):cap(b)]) })
		if err != nil {
			return "", err
		}
		if n == 0 {
			break
		}
		b = b[:len(b)+n]
	}
	return string(b), nil
}

func (d folder) write(name, value string) error {
	fd, err := d.raw(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = retry(func() (int, error) { return unix.Write(fd, []byte(value)) })
	return err
}

// has says whether a file exists.
func (d folder) has(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// writable returns the first of these files that this process may not write.
func (d folder) writable(names ...string) (string, error) {
	for _, n := range names {
		if err := unix.Faccessat(d.fd(), n, unix.W_OK, unix.AT_EACCESS); err != nil {
			return d.path + "/" + n, err
		}
	}
	return "", nil
}

// number reads a file that holds one number, or "max", which is -1.
func (d folder) number(name string) (int64, error) {
	s, err := d.read(name)
	if err != nil {
		return 0, err
	}
	s = strings.TrimSpace(s)
	if s == "max" {
		return -1, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// field reads one value of a file of "key value" lines; ok says whether the
// key is there.
func (d folder) field(name, key string) (v int64, ok bool) {
	s, err := d.read(name)
	if err != nil {
		return 0, false
	}
	return field(s, key)
}

func field(text, key string) (v int64, ok bool) {
	for line := range strings.Lines(text) {
		k, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if k != key {
			continue
		}
		v, err := strconv.ParseInt(rest, 10, 64)
		return v, err == nil
	}
	return 0, false
}

// pids reads the processes of a group. Those that this pid namespace does not
// show read as 0.
func (d folder) pids() ([]int, error) {
	s, err := d.read("cgroup.procs")
	if err != nil {
		return nil, err
	}
	var all []int
	for _, f := range strings.Fields(s) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// children returns the names of the groups right below, at most max.
func (d folder) children(max int) []string {
	again, err := d.open(".") // with a position of its own
	if err != nil {
		return nil
	}
	defer again.close()
	var names []string
	for len(names) < max {
		entries, err := again.f.ReadDir(256)
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
		if err != nil || len(entries) == 0 {
			break
		}
	}
	return names
}
