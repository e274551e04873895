package spawner

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/spawn"
)

// maxInputs bounds the inputs of one sandbox.
const maxInputs = 64

// input makes one file in a sandbox's folder of inputs and answers with a
// descriptor to write it by. The file lies in the sandbox's own memory, so that
// what is written there is the only copy, and counts against its disk; the guest
// sees the folder through a mount that is read-only.
func (s *server) input(c *spawn.Conn, m *spawn.Message) {
	b := s.boxOf(m.Input.ID)
	if b == nil {
		s.reply(c, m, refuse("invalid", "no such sandbox"))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	fd, err := s.makeInput(b, m.Input.Name)
	if err != nil {
		s.reply(c, m, err)
		return
	}
	err = c.Send(&spawn.Message{Op: spawn.OpDone, Seq: m.Seq}, fd)
	unix.Close(fd)
	if err != nil {
		s.reply(c, m, err)
	}
}

// takeInputs takes over what a sandbox sent beside its upper folders.
func (b *box) takeInputs(fds []int) {
	for i, fd := range fds {
		if i == 0 && b.guest.Inputs {
			b.inputs = os.NewFile(uintptr(fd), "inputs")
		} else {
			unix.Close(fd)
		}
	}
}

// makeInput makes one input; b.mu is held.
func (s *server) makeInput(b *box, name string) (int, error) {
	switch {
	case b.inputs == nil:
		return -1, refuse("unsupported", "the sandbox has no place for inputs")
	case name == "" || len(name) > 255 || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return -1, refuse("invalid", "the name of an input is 1 to 255 bytes without a slash")
	case b.donated >= maxInputs:
		return -1, refuse("invalid", "a call has at most 64 inputs")
	}
	uid := -1
	if s.own { // its filesystem knows no other
		uid = uidOf(b.slot)
	}
	fd, err := createAs(uid, int(b.inputs.Fd()), name)
	switch err {
	case nil:
		b.donated++
		return fd, nil
	case unix.EEXIST:
		return -1, refuse("invalid", "two inputs have one name")
	case unix.ENOSPC:
		return -1, &spawn.Failed{Kind: "killed-by-limit", What: "the inputs do not fit on the sandbox's disk", Fix: "pass less, or raise disk in the manifest"}
	}
	return -1, os.NewSyscallError("openat", err)
}

// createAs makes a file that belongs to uid, unless that is negative. Nobody
// but this process can have put anything into the folder.
func createAs(uid, folder int, name string) (fd int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if uid >= 0 {
		defer func() {
			if !filesAs(0) {
				os.Exit(fatal(unix.EPERM)) // the thread would make what comes next as a guest
			}
		}()
		if !filesAs(uid) {
			return -1, unix.EPERM
		}
	}
	return unix.Openat(folder, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
}

// filesAs makes id, of user and group, the owner of what the calling thread
// makes, and says whether it is: the calls themselves do not (setfsuid(2)).
func filesAs(id int) bool {
	unix.SetfsgidRetGid(id)
	unix.SetfsuidRetUid(id)
	gid, _ := unix.SetfsgidRetGid(-1)
	uid, _ := unix.SetfsuidRetUid(-1)
	return uint32(gid) == uint32(id) && uint32(uid) == uint32(id)
}
