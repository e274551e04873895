package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// syscallNumber makes one system call with zero arguments or those given; a
// call that the filter refuses does not reach the kernel's own checks, so the
// error tells which it was.
func syscallNumber(a []string) (string, error) {
	var n [7]uintptr
	for i := range min(len(a), len(n)) {
		v, err := strconv.ParseUint(a[i], 0, 64)
		if err != nil {
			return "", err
		}
		n[i] = uintptr(v)
	}
	_, _, errno := unix.Syscall6(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
	if errno == unix.EPERM || errno == unix.ENOSYS || errno == unix.EAFNOSUPPORT || errno == unix.EACCES {
		return "", errno
	}
	return "the kernel answered: " + errno.Error(), nil
}

// calls tries every system call below a[0] and returns the numbers that were
// answered otherwise than by EPERM or ENOSYS, as a filter refuses. Every
// argument is -1, which is no descriptor, no address, no signal, no size and
// no set of flags that the kernel takes: nothing is done.
func calls(a []string) (string, error) {
	most, err := number(a[0], 2048)
	if err != nil {
		return "", err
	}
	mask := unix.Umask(0)
	defer unix.Umask(mask)
	var through []string
	for nr := range most {
		if harmful(nr) {
			continue
		}
		const all = ^uintptr(0)
		args := [6]uintptr{all, all, all, all, all, all}
		if nr == unix.SYS_MSGGET { // -1 would ask for a new queue
			args = [6]uintptr{0x7fffffff}
		}
		if _, _, errno := unix.Syscall6(uintptr(nr), args[0], args[1], args[2], args[3], args[4], args[5]); errno != unix.EPERM && errno != unix.ENOSYS {
			through = append(through, strconv.Itoa(nr))
		}
	}
	return strings.Join(through, " "), nil
}

// childTime bounds a child: a kernel that has no foreign interface may never
// come back from one.
const childTime = 2 * time.Second

// child runs this program again for one batch of attempts, of which one may
// end it. It returns what the last of them said.
func child(flags uintptr, do ...[]string) (Outcome, error) {
	var o Outcome
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	args := []string{"-"}
	if filepath.Base(self) != "attacker" { // it is the command's
		args = []string{"attacker", "-"}
	}
	in, err := json.Marshal(Batch{Do: do})
	if err != nil {
		return o, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), childTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdin = bytes.NewReader(in)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return o, err
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return o, json.Unmarshal(lines[len(lines)-1], &o)
}

// userns starts a process in a user namespace of its own, where it would have
// every capability.
func userns([]string) (string, error) {
	_, err := child(unix.CLONE_NEWUSER, []string{"sleep", "0"})
	return "a process runs in a user namespace of its own", err
}

// nested returns the powers of a child.
func nested([]string) (string, error) {
	o, err := child(0, []string{"privilege"})
	return o.Got, err
}

// Surface are parts of the kernel that no tool needs, as attempts: namespaces
// and mounts, other processes, io_uring, bpf, keys, modules, clocks.
func Surface() (out [][]string) {
	for _, nr := range [...]int{unix.SYS_IO_URING_SETUP, unix.SYS_BPF, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
		unix.SYS_FSOPEN, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_SETNS, unix.SYS_CLONE3, unix.SYS_OPENAT2, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_FANOTIFY_INIT, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_QUOTACTL, unix.SYS_ACCT,
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME, unix.SYS_PIDFD_GETFD, unix.SYS_SYSLOG} {
		out = append(out, []string{"syscall", strconv.Itoa(nr)})
	}
	for _, flag := range [...]int{unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWNET, unix.CLONE_NEWPID} {
		out = append(out, []string{"syscall", strconv.Itoa(unix.SYS_UNSHARE), strconv.Itoa(flag)})
	}
	return out
}

// ioctl asks for a terminal's TIOCSTI with high bits set, on a terminal of
// its own.
func ioctl([]string) (string, error) {
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(m)
	b := []byte("x\x00\x00\x00\x00\x00\x00\x00")
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(m), 0xdead_0000_0000_0000|unix.TIOCSTI, ptr(b))
	if errno == 0 {
		return "", nil
	}
	return "", errno
}

// push writes a line into the controlling terminal's input, plainly and with
// high bits set.
func push([]string) (string, error) {
	var got []string
	for _, request := range []uintptr{unix.TIOCSTI, 0xdead_0000_0000_0000 | unix.TIOCSTI} {
		var errno unix.Errno
		for _, c := range []byte("PUSHED\n") {
			if _, _, errno = unix.Syscall(unix.SYS_IOCTL, 0, request, ptr([]byte{c, 0, 0, 0, 0, 0, 0, 0})); errno != 0 {
				break
			}
		}
		got = append(got, errno.Error())
	}
	return strings.Join(got, ", "), nil
}

// shm looks for a segment of shared memory by its key.
func shm(a []string) (string, error) {
	key, err := strconv.Atoi(a[0])
	if err != nil {
		return "", err
	}
	id, err := unix.SysvShmGet(key, 0, 0)
	return fmt.Sprintf("segment %d", id), err
}

func keyring([]string) (string, error) {
	id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
	return fmt.Sprintf("keyring %d", id), err
}
