package attack

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func status([]string) (string, error) { return read([]string{"/proc/self/status"}) }

// privilege returns the powers that this process has, as the kernel and not a
// file says it.
func privilege([]string) (string, error) {
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return "", err
	}
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if err != nil {
		mode = -1
	}
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return "", err
	}
	caps, bounding := uint32(0), 0
	for _, d := range data {
		caps |= d.Effective | d.Permitted | d.Inheritable
	}
	for c := range unix.CAP_LAST_CAP + 1 {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil {
			bounding += has
		}
	}
	return fmt.Sprintf("nnp=%d seccomp=%d caps=%#x bounding=%d", nnp, mode, caps, bounding), nil
}

func spaces([]string) (string, error) { return strings.Join(Spaces(), " "), nil }

func uids([]string) (string, error) {
	m, err := os.ReadFile("/proc/self/uid_map")
	return strconv.Itoa(os.Getuid()) + " " + strings.Join(strings.Fields(string(m)), " "), err
}

func hostname([]string) (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(u.Nodename[:]), nil
}

func kill(a []string) (string, error) {
	pid, err := strconv.Atoi(a[0])
	if err != nil {
		return "", err
	}
	return "", unix.Kill(pid, unix.SIGURG) // ignored by default: a victim outside comes to no harm
}

func pids([]string) (string, error) {
	es, err := os.ReadDir("/proc")
	n := 0
	for _, e := range es {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			n++
		}
	}
	return strconv.Itoa(n), err
}

// first tries what a process may do to another of its user, on the first
// process of the sandbox, which has more power than a guest.
func first([]string) (string, error) {
	var errs []error
	for _, name := range []string{"root", "cwd", "exe"} {
		if l, err := os.Readlink("/proc/1/" + name); err == nil {
			return name + " is " + l, nil
		} else {
			errs = append(errs, err)
		}
	}
	es, err := os.ReadDir("/proc/1/fd")
	if err != nil {
		errs = append(errs, err)
	}
	for _, e := range es { // their numbers alone are of no use
		path := "/proc/1/fd/" + e.Name()
		if l, err := os.Readlink(path); err == nil {
			return "descriptor " + e.Name() + " is " + l, nil
		} else if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
			return "descriptor " + e.Name() + " can be opened", nil
		} else {
			errs = append(errs, err)
		}
	}
	for _, name := range []string{"mem", "environ", "auxv", "maps"} {
		b := make([]byte, 64)
		f, err := os.Open("/proc/1/" + name)
		if err == nil {
			var n int
			n, err = f.Read(b)
			f.Close()
			if n > 0 {
				return fmt.Sprintf("%s gives %d bytes", name, n), nil
			}
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("%d ways are closed: %w", len(errs), errs[0])
}

// fds lists the descriptors beyond the standard ones that this program was
// started with and where they point; the runtime's own are left out.
func fds([]string) (string, error) {
	es, err := os.ReadDir("/proc/self/fd")
	own := fmt.Sprintf("/proc/%d/fd", os.Getpid())
	var out []string
	for _, e := range es {
		l, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if n, _ := strconv.Atoi(e.Name()); n > 2 && l != "" && !strings.HasPrefix(l, "anon_inode:") && l != own {
			out = append(out, e.Name()+"="+l)
		}
	}
	cwd, _ := os.Getwd()
	return strings.Join(append(out, "cwd="+cwd), " "), err
}

func environ([]string) (string, error) {
	all := strings.Join(os.Environ(), "\n")
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range paths {
		b, _ := os.ReadFile(p)
		all += string(b)
	}
	return all, nil
}

// doors returns, as a JSON object, how each path begins that can be read.
func doors(a []string) (string, error) {
	got := map[string]string{}
	for _, p := range a {
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			if s, err := list([]string{p}); err == nil && s != "" {
				got[p] = s
			}
			continue
		}
		if s, err := read([]string{p}); err == nil && s != "" {
			got[p] = s[:min(len(s), 64)]
		}
	}
	b, err := json.Marshal(got)
	return string(b), err
}

// masks returns those of the paths that are there and neither the device
// null, by its number, nor an empty folder.
func masks(a []string) (string, error) {
	seen := 0
	for _, p := range a {
		fd, err := unix.Open(p, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		if err != nil {
			continue
		}
		seen++
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3):
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			if es, err := os.ReadDir(p); err == nil && len(es) > 0 {
				return fmt.Sprintf("%s is a folder with %d entries", p, len(es)), nil
			}
		default:
			return p + " is not masked", nil
		}
	}
	return "", fmt.Errorf("all %d that are there are masked", seen)
}

// devices lists every device node beneath /dev by path and number.
func devices([]string) (string, error) {
	var out []string
	err := filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		var st unix.Stat_t // of what is mounted there, and not of the entry
		if unix.Lstat(path, &st) == nil {
			if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
				return nil
			}
			out = append(out, fmt.Sprintf("%s=%d:%d", path, unix.Major(st.Rdev), unix.Minor(st.Rdev)))
		}
		return nil
	})
	slices.Sort(out)
	return strings.Join(out, " "), err
}

// random returns what no two sandboxes may share, as a JSON object.
func random([]string) (string, error) {
	got := map[string]string{}
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	got["rand"] = hex.EncodeToString(b)
	if n, err := unix.Getrandom(b, 0); err == nil && n == len(b) {
		got["getrandom"] = hex.EncodeToString(b)
	}
	if f, err := os.Open("/dev/urandom"); err == nil {
		if n, _ := f.Read(b); n == len(b) {
			got["urandom"] = hex.EncodeToString(b)
		}
		f.Close()
	}
	if s, err := read([]string{"/proc/sys/kernel/random/uuid"}); err == nil {
		got["uuid"] = strings.TrimSpace(s)
	}
	if len(got) < 2 {
		return "", errors.New("there is no source of random bytes")
	}
	out, err := json.Marshal(got)
	return string(out), err
}
