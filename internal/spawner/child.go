package spawner

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/spawn"
)

// A child is one sandbox that a template forked; the template's mu guards it
// until it is done.
type child struct {
	template *template

	program *contain.Program
	number  int           // as the template's namespace has it
	pid     int           // as ours has it
	fd      *os.File      // a pidfd
	gone    chan struct{} // closed when it has ended, with every other process of its namespace
	uppers  []int         // with its report
	err     error         //
	done    chan struct{} // closed when its walls are up, or err is why not
	ready   bool          // it said so
	ended
}

// ended is how a child ended, and the processor time that it and what it waited
// for had used.
type ended struct {
	ws   syscall.WaitStatus
	used time.Duration
}

// fork makes a child by its program, and waits until its walls are up.
func (t *template) fork(p *contain.Program, user int, fds []int) (*child, error) {
	k := &child{template: t, program: p, done: make(chan struct{})}
	t.mu.Lock()
	t.next++
	packet := p.Packet(t.out[:0], t.next, user, len(fds))
	t.out = packet
	err := error(nil)
	if len(packet) > t.room {
		err = refuse("unsupported", "the tool has more walls than its template takes: fewer mounts, or fork: false")
	} else if err = t.send(packet, fds...); err == nil {
		t.making[t.next] = k
	} else if err == unix.EPIPE || err == unix.ECONNRESET {
		t.retired = true // whoever comes next has another
	}
	t.mu.Unlock()
	if err == unix.EPIPE || err == unix.ECONNRESET {
		err = t.lost()
	}
	if err != nil {
		return nil, err
	}
	late := time.AfterFunc(setupTime*time.Second, t.box.kill)
	<-k.done
	late.Stop()
	if k.err == nil {
		return k, nil
	}
	if k.fd != nil {
		k.wait()
	}
	closeFDs(k.uppers) // it may have been ready when its template ended
	return nil, k.err
}

// watch waits for the end of a child, by its pidfd, which it takes over. No
// thread waits.
func (k *child) watch(id uint64, pidfd int) {
	unix.SetNonblock(pidfd, true)
	k.fd, k.gone = os.NewFile(uintptr(pidfd), "guest"), make(chan struct{})
	go func() {
		if raw, err := k.fd.SyscallConn(); err == nil {
			raw.Read(func(fd uintptr) bool {
				p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
				for {
					n, err := unix.Poll(p, 0)
					if err != unix.EINTR {
						return n > 0 || err != nil
					}
				}
			})
		}
		// Its answer comes after everything that the child said.
		how := k.template.reap(k.number)
		k.fd.Close()
		k.template.mu.Lock()
		k.ended = how
		if k.err == nil && !k.ready {
			k.err = &spawn.Failed{Kind: "internal", What: "the sandbox died while it was set up: wait status " + strconv.Itoa(int(how.ws)), Fix: "see whether the host or the tool's memory is short"}
		}
		k.template.made(id, k)
		k.template.mu.Unlock()
		close(k.gone)
	}()
}

// wait blocks until the first process has ended, with all others of its
// namespace, and returns how.
func (k *child) wait() ended {
	<-k.gone
	return k.ended
}

// signal sends sig to the first process; SIGKILL ends every process of its
// namespace. It is an error where that has ended.
func (k *child) signal(sig unix.Signal) error {
	raw, err := k.fd.SyscallConn()
	if err != nil {
		return err
	}
	gone := raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	return errors.Join(gone, err)
}

// reap returns how a child ended that has ended. A template that does not say
// so in time is killed, with everything that it forked.
func (t *template) reap(number int) ended {
	ch := make(chan ended, 1)
	var packet [contain.LateHeader]byte
	binary.LittleEndian.PutUint64(packet[:], contain.LateReap)
	binary.LittleEndian.PutUint64(packet[8:], uint64(number))
	t.mu.Lock()
	err := t.send(packet[:])
	if err == nil {
		t.reaping[number] = ch
	}
	t.mu.Unlock()
	if err != nil {
		return ended{ws: syscall.WaitStatus(unix.SIGKILL)}
	}
	late := time.AfterFunc(setupTime*time.Second, t.box.kill)
	defer late.Stop()
	return <-ch
}
