package main

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/spawn"
)

// waitable makes the ends of a client's pipes such that whoever reads and
// writes them can wait for them with everything else, and need not keep a
// thread in each: a wait costs less, and can be ended. Only pipes and sockets
// are made so, and none that is f's standard error too, whose writers do not
// expect it. That is seen by all who share the end, such as a shell that goes
// on afterwards; undo makes it as it was.
func waitable(files ...*os.File) (undo func()) {
	var changed []int
	for _, f := range files {
		fd := int(f.Fd())
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 || !carries(f) || same(f, os.Stderr) {
			continue
		}
		if unix.SetNonblock(fd, true) == nil {
			changed = append(changed, fd)
		}
	}
	return func() {
		for _, fd := range changed {
			unix.SetNonblock(fd, false)
		}
		changed = nil
	}
}

// quick is f, read and written the quicker way where it can be.
func quick(f *os.File) io.ReadWriter {
	if q, err := linux.NewQuick(f); err == nil && carries(f) {
		return q
	}
	return f
}

// carries says whether f is a pipe or a socket: not a terminal, which can be
// read, or a file, which can be cut.
func carries(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

func same(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

// giveEnds hands the client's ends to the router behind c, or says that they
// are relayed.
func giveEnds(c *net.UnixConn, give bool) (err error) {
	if give {
		_, _, err = c.WriteMsgUnix([]byte{handed}, unix.UnixRights(0, 1), nil)
	} else {
		_, err = c.Write([]byte{relayed})
	}
	return err
}

// takeEnds is the router's side of giveEnds; nil where the shim relays.
func takeEnds(c *net.UnixConn) (ends []*os.File, err error) {
	c.SetReadDeadline(time.Now().Add(introductionTime))
	defer c.SetReadDeadline(time.Time{})
	word, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(2*4))
	_, n, _, _, err := c.ReadMsgUnix(word, oob)
	for _, fd := range spawn.Rights(oob[:n]) {
		ends = append(ends, os.NewFile(uintptr(fd), "client"))
	}
	switch {
	case err == nil && word[0] == relayed && len(ends) == 0:
		return nil, nil
	case err == nil && word[0] == handed && len(ends) == 2 && carries(ends[0]) && carries(ends[1]):
		return ends, nil
	case err == nil:
		err = errors.New("the shim did not say how its client is reached")
	}
	for _, f := range ends {
		f.Close()
	}
	return nil, err
}
