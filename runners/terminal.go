package runners

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// size is the terminal's size that the body of a Size frame holds.
func size(body []byte) *unix.Winsize {
	return &unix.Winsize{Col: binary.BigEndian.Uint16(body), Row: binary.BigEndian.Uint16(body[2:])}
}

// openTerminal makes a terminal of the sandbox's own. The other end is opened
// through the first, by no name that somebody could change (TIOCGPTPEER,
// Linux 4.13).
func openTerminal(w *unix.Winsize) (master, slave int, err error) {
	master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, -1, os.NewSyscallError("open /dev/ptmx", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(master)
		return -1, -1, os.NewSyscallError("ioctl TIOCSPTLCK", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		unix.Close(master)
		return -1, -1, os.NewSyscallError("ioctl TIOCGPTPEER", errno)
	}
	resize(master, w)
	return master, int(fd), nil
}

// resize sets the size of a terminal, and the kernel tells the processes in
// its foreground (SIGWINCH). -1 is no terminal.
func resize(fd int, w *unix.Winsize) {
	if fd >= 0 {
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, w)
	}
}

// withTerm names a kind of terminal that every program knows, where the
// profile names none.
func withTerm(env []string) []string {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "TERM=") }) {
		return env
	}
	return append(slices.Clone(env), "TERM=xterm")
}
