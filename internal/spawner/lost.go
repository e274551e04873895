package spawner

import (
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Of a process with id maps Go makes a pipe first, and where the kernel then
// refuses the process, both its ends stay open (syscall.forkAndExecInChild, as
// of Go 1.26). A host that is short of processes for a while would so cost a
// spawner all its descriptors. Nothing else in here has both ends of a pipe for
// as long as lostAge, and so what has them then is closed.

// lostAge is longer than any start takes.
const lostAge = 4 * setupTime * time.Second

// A lost closes pipes that nobody knows of.
type lost struct {
	folder *os.File // the descriptors of this process: with none left it could not be opened

	mu      sync.Mutex
	waiting bool
}

// look is for after a process was refused.
func (l *lost) look(age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting {
		return
	}
	l.waiting = true
	before := l.pipes()
	time.AfterFunc(age, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waiting = false
		for pipe, ends := range l.pipes() {
			if before[pipe] == ends {
				unix.Close(ends[0])
				unix.Close(ends[1])
			}
		}
	})
}

// pipes returns the pipes of which this process has both ends, and these; l.mu is held.
func (l *lost) pipes() map[stamp][2]int {
	readers, writers := map[stamp][]int{}, map[stamp][]int{}
	if _, err := l.folder.Seek(0, io.SeekStart); err != nil {
		return nil
	}
	names, _ := l.folder.Readdirnames(-1)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		var st unix.Stat_t
		if err != nil || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			continue
		}
		pipe := stamp{st.Dev, st.Ino}
		switch flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); {
		case err != nil:
		case flags&unix.O_ACCMODE == unix.O_RDONLY:
			readers[pipe] = append(readers[pipe], fd)
		default:
			writers[pipe] = append(writers[pipe], fd)
		}
	}
	two := map[stamp][2]int{}
	for pipe, r := range readers {
		if w := writers[pipe]; len(r) == 1 && len(w) == 1 {
			two[pipe] = [2]int{r[0], w[0]}
		}
	}
	return two
}
