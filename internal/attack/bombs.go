package attack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// number reads a bound, which is at most most.
func number(text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%q is no number up to %d", text, most)
	}
	return n, nil
}

// fork makes up to a[0] children that sleep in sessions of their own, and says
// how many it got. They end after 20 s, or a[1], or with the sandbox.
func fork(a []string) (string, error) {
	most, err := number(a[0], 4096)
	if err != nil {
		return "", err
	}
	n, time := 0, "20"
	if len(a) > 1 {
		time = a[1]
	}
	for ; n < most; n++ {
		p, err := os.StartProcess("/bin/sleep", []string{"sleep", time}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
		if errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if err != nil {
			break
		}
		p.Release()
	}
	return strconv.Itoa(n), nil
}

// memory touches up to a[0] MiB and says so when it could.
func memory(a []string) (string, error) {
	most, err := number(a[0], 2048)
	if err != nil {
		return "", err
	}
	var keep [][]byte
	for range most {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
	return strconv.Itoa(len(keep)), nil
}

// disk writes up to a[1] MiB to a file of folder a[0], says how many it took,
// and removes it.
func disk(a []string) (string, error) {
	most, err := number(a[1], 1024)
	if err != nil {
		return "", err
	}
	name := filepath.Join(a[0], "disk-bomb")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { f.Close(); os.Remove(name) }()
	b, n := bytes.Repeat([]byte{1}, 1<<20), 0
	for ; n < most; n++ {
		if _, err := f.Write(b); err != nil {
			break
		}
	}
	return strconv.Itoa(n), nil
}

// files makes up to a[1] empty files in a new folder of a[0] and says how many.
func files(a []string) (string, error) {
	most, err := number(a[1], 50_000)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(a[0], "file-bomb")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	n := 0
	for ; n < most; n++ {
		fd, err := unix.Open(dir+"/"+strconv.Itoa(n), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			break
		}
		unix.Close(fd)
	}
	os.RemoveAll(dir)
	return strconv.Itoa(n), nil
}

func descriptors([]string) (string, error) {
	var all []int
	for len(all) < 100_000 {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		all = append(all, fd)
	}
	for _, fd := range all {
		unix.Close(fd)
	}
	return strconv.Itoa(len(all)), nil
}

// output prints a[0] bytes, to standard error where a[1] says "2".
func output(a []string) (string, error) {
	to := os.Stdout
	if len(a) > 1 && a[1] == "2" {
		to = os.Stderr
	}
	most, err := number(a[0], 1<<30)
	if err != nil {
		return "", err
	}
	b := []byte(strings.Repeat("y", 1<<16))
	for n := 0; n < most; n += len(b) {
		if _, err := to.Write(b); err != nil {
			return "", err
		}
	}
	return "", nil
}

// sleep waits for a[0] ms.
func sleep(a []string) (string, error) {
	n, err := number(a[0], 10_000)
	time.Sleep(time.Duration(n) * time.Millisecond)
	return "", err
}

// hold is how long a bomb keeps what it has, for others to be measured
// meanwhile.
const hold = 3 * time.Second

// inflight puts descriptors on the way in sockets, until the kernel refuses.
func inflight([]string) (string, error) {
	n := 0
	for n < 20_000 {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		if err != nil {
			break
		}
		for n < 20_000 {
			if err := unix.Sendmsg(p[0], []byte("x"), unix.UnixRights(p[0], p[1]), nil, unix.MSG_DONTWAIT); err != nil {
				break
			}
			n += 2
		}
	}
	time.Sleep(hold)
	return strconv.Itoa(n), nil
}

// pipes fills pipes up to the user's soft limit of pipe pages.
func pipes([]string) (string, error) {
	n := 0
	for ; n < 2000; n++ {
		var p [2]int
		if unix.Pipe(p[:]) != nil {
			break
		}
		unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, 1<<20)
	}
	time.Sleep(hold)
	return strconv.Itoa(n), nil
}

func inotify([]string) (string, error) {
	n := openWatchers(2000)
	time.Sleep(hold)
	return strconv.Itoa(n), nil
}

// watchers says how many inotify instances it got, of which the kernel counts
// those of a user together.
func watchers([]string) (string, error) { return strconv.Itoa(openWatchers(200)), nil }

func openWatchers(most int) int {
	n := 0
	for ; n < most; n++ {
		if _, err := unix.InotifyInit1(unix.IN_CLOEXEC); err != nil {
			break
		}
	}
	return n
}
