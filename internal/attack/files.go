package attack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func read(a []string) (string, error) {
	f, err := os.OpenFile(a[0], os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 4096)
	n, err := f.Read(b)
	if err == io.EOF {
		err = nil
	}
	return string(b[:max(n, 0)]), err
}

func exists(a []string) (string, error) {
	info, err := os.Lstat(a[0])
	if err != nil {
		return "", err
	}
	return info.Mode().String(), nil
}

func write(a []string) (string, error) {
	// A FIFO without a reader must not block.
	f, err := os.OpenFile(a[0], os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = f.WriteString(a[1])
	return "", err
}

// plant makes a file and the folders above it.
func plant(a []string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(a[0]), 0o755); err != nil {
		return "", err
	}
	return "", os.WriteFile(a[0], []byte(a[1]), 0o755)
}

func list(a []string) (string, error) {
	es, err := os.ReadDir(a[0])
	var names []string
	for _, e := range es[:min(len(es), 200)] {
		names = append(names, e.Name())
	}
	return strings.Join(names, " "), err
}

func mkdir(a []string) (string, error)   { return "", os.MkdirAll(a[0], 0o755) }
func rename(a []string) (string, error)  { return "", os.Rename(a[0], a[1]) }
func symlink(a []string) (string, error) { return "", os.Symlink(a[0], a[1]) }
func link(a []string) (string, error)    { return "", os.Link(a[0], a[1]) }

func chmod(a []string) (string, error) {
	m, err := strconv.ParseUint(a[1], 8, 32)
	if err != nil {
		return "", err
	}
	return "", unix.Fchmodat(unix.AT_FDCWD, a[0], uint32(m), 0)
}

func creat(a []string) (string, error) {
	m, err := strconv.ParseUint(a[1], 8, 32)
	if err != nil {
		return "", err
	}
	fd, err := unix.Open(a[0], unix.O_CREAT|unix.O_WRONLY, uint32(m))
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(a[2]))
	return "", err
}

func mknod(a []string) (string, error) {
	return "", unix.Mknod(a[0], unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
}

func fifo(a []string) (string, error) { return "", unix.Mkfifo(a[0], 0o666) }

// run makes a program of a few bytes at a[0] and runs it there.
func run(a []string) (string, error) {
	defer os.Remove(a[0])
	if err := os.WriteFile(a[0], tiny(), 0o755); err != nil {
		return "", fmt.Errorf(NotMade+": %w", err)
	}
	err := exec.Command(a[0]).Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == tinyStatus {
		return "it ran", nil
	}
	if err == nil {
		err = errors.New("something else ran")
	}
	return "", err
}

// tinyStatus is how the program of tiny ends, which does nothing else.
const tinyStatus = 42

// tiny is an ELF file with one segment: a header, and code for exit. elf(5)
func tiny() []byte {
	const base, start = 0x400000, 64 + 56
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	put16 := func(v ...uint16) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint16(b, x)
		}
	}
	put32 := func(v ...uint32) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, x)
		}
	}
	put64 := func(v ...uint64) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint64(b, x)
		}
	}
	machine, code := exitCode()
	size := uint64(start + len(code))
	put16(2, machine)
	put32(1)
	put64(base+start, 64, 0)
	put32(0)
	put16(64, 56, 1, 0, 0, 0)
	put32(1, 5) // to load; to be read and run
	put64(0, base, base, size, size, 4096)
	return append(b, code...)
}

// The bounds of a walk through everything that the sandbox sees.
const (
	walkTime    = 4 * time.Second
	walkEntries = 300_000
)

// writable walks the tree and returns every folder in which it made a file,
// and every file that it could open to write; of /proc and /sys too, but for
// what belongs to processes of its own. Device nodes come with their numbers and
// are not opened. Before the list are how many entries it saw, and whether that
// was all or, when its time was over, a part. Nothing is changed.
func writable([]string) (string, error) {
	var out []string
	n, whole, end := 0, "all", time.Now().Add(walkTime)
	filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if n++; n > walkEntries || len(out) > 200 || time.Now().After(end) {
			whole = "part"
			return filepath.SkipAll
		}
		if err != nil {
			return nil
		}
		if d.IsDir() && strings.HasPrefix(path, "/proc/") {
			if _, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil {
				return filepath.SkipDir
			}
		}
		if path == "/proc/self" || path == "/proc/thread-self" || d.Type()&fs.ModeSymlink != 0 || unix.Access(path, unix.W_OK) != nil {
			return nil
		}
		if d.IsDir() {
			name := filepath.Join(path, ".casemate-attack")
			if fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600); err == nil {
				unix.Close(fd)
				unix.Unlink(name)
				out = append(out, path+"/")
			}
			return nil
		}
		var st unix.Stat_t // of what is mounted there, and not of the entry
		if unix.Lstat(path, &st) != nil {
			return nil
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG { // to open some devices is to use them
			out = append(out, fmt.Sprintf("%s=%d:%d", path, unix.Major(st.Rdev), unix.Minor(st.Rdev)))
			return nil
		}
		if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
			out = append(out, path)
		}
		return nil
	})
	slices.Sort(out)
	return fmt.Sprintf("%d %s %s", n, whole, strings.Join(out, " ")), nil
}

// fixed fails where the mount of a[0] is read-only, and says the name of what
// is not.
func fixed(a []string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(a[0], &st); err != nil {
		return "", err
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return a[0] + " is mounted to be written", nil
	}
	return "", unix.EROFS
}

// magic returns the type of the filesystem of each path, which must be a[0]:
// that of another was mounted over it.
func magic(a []string) (string, error) {
	want, err := strconv.ParseInt(a[0], 0, 64)
	if err != nil {
		return "", err
	}
	seen := 0
	for _, p := range a[1:] {
		fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Statfs_t
		err = unix.Fstatfs(fd, &st)
		unix.Close(fd)
		if err == nil && int64(st.Type) != want {
			return fmt.Sprintf("%s has type %#x", p, st.Type), nil
		}
		seen++
	}
	return "", fmt.Errorf("%d of %d paths are there, and of that type", seen, len(a)-1)
}

// race swaps a name between a folder and a link to a[1] for a short time and
// reads the link's file through it all the while: what it got of the target.
func race(a []string) (string, error) {
	dir := a[0]
	if err := os.MkdirAll(dir+"/real", 0o755); err != nil {
		return "", err
	}
	if err := os.Symlink(a[1], dir+"/link"); err != nil {
		return "", err
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir+"/real", unix.AT_FDCWD, dir+"/link", unix.RENAME_EXCHANGE)
			}
		}
	}()
	var last error
	got := ""
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end) && got == ""; {
		if es, err := os.ReadDir(dir + "/real/"); err == nil && len(es) > 0 {
			got = es[0].Name()
		} else if err != nil {
			last = err
		}
	}
	close(stop)
	<-done
	if got != "" {
		return got, nil
	}
	return "", fmt.Errorf("nothing was there: %w", last)
}
