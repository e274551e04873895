package runners

import (
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// size is the terminal's size that the body of a Size frame holds.
func size(body []byte) *unix.Winsize {
	return &unix.Winsize{Col: binary.BigEndian.Uint16(body), Row: binary.BigEndian.Uint16(body[2:])}
}

// openTerminal makes a terminal of the sandbox's own devpts, in which nobody
// can put another at its name.
func openTerminal(w *unix.Winsize) (master, slave int, err error) {
	master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, -1, os.NewSyscallError("open /dev/ptmx", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(master)
		return -1, -1, os.NewSyscallError("ioctl TIOCSPTLCK", err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err == nil {
		slave, err = unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		unix.Close(master)
		return -1, -1, os.NewSyscallError("open /dev/pts", err)
	}
	resize(master, w)
	return master, slave, nil
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
