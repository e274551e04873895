package spawner

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/guest"
)

// roomForRights is for as many descriptors as the kernel sends with one packet,
// and for who sent it.
const roomForRights = 2 << 10

// A word is one packet from a template or its children.
type word struct {
	kind, id, a, b int64
	pid            int // of who sent it
	fds            []int
}

// recv returns the next packet; it blocks. What the first process of the sandbox
// says last is an error.
func (t *template) recv() (word, error) {
	buf, oob := t.in[:], t.oob[:]
	var n, oobn int
	var err error
	closed := t.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if closed != nil {
		n, oobn, err = 0, 0, closed
	}
	w := word{}
	messages, _ := unix.ParseSocketControlMessage(oob[:max(oobn, 0)])
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			w.fds = append(w.fds, fds...)
		}
		if c, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			w.pid = int(c.Pid)
		}
	}
	switch {
	case err != nil:
		err = os.NewSyscallError("the template does not answer: recvmsg", err)
	case n == 0:
		err = errors.New("the template ended")
	case n != contain.LateReport && n > 9 && buf[0] == byte(guest.Failure):
		err = errors.New(printable(buf[9:n]))
	case n != contain.LateReport:
		err = errTalk
	}
	if err != nil {
		closeFDs(w.fds)
		return word{}, err
	}
	for i, to := range []*int64{&w.kind, &w.id, &w.a, &w.b} {
		*to = int64(binary.LittleEndian.Uint64(buf[8*i:]))
	}
	return w, nil
}

var errTalk = errors.New("the interpreter does not speak as a template does: it is no Python, or a module of preload wrote to its descriptor 3")

func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(b), "?"))
}

// send sends a packet; t.mu is held.
func (t *template) send(packet []byte, fds ...int) error {
	if t.over {
		return unix.EPIPE
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	var err error
	closed := t.raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendmsg(int(fd), packet, oob, nil, unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if closed != nil {
		return unix.EPIPE
	}
	return err
}
