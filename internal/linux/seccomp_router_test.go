package linux

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestRouterFilter(t *testing.T) {
	eperm, eacces := gives(unix.EPERM), gives(unix.EACCES)
	const self = 4242
	rows := []row{
		{"execve", [6]uint64{}, eperm}, {"execveat", [6]uint64{}, eperm}, {"fork", [6]uint64{}, eperm}, {"vfork", [6]uint64{}, eperm},
		{"clone3", [6]uint64{}, gives(unix.ENOSYS)},
		{"clone", [6]uint64{uint64(unix.SIGCHLD)}, eperm}, {"clone", [6]uint64{unix.CLONE_VM | uint64(unix.SIGCHLD)}, eperm},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_NEWNET}, eperm},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD}, allowed},
		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, eperm}, {"socketpair", [6]uint64{unix.AF_UNIX}, eperm},
		{"connect", [6]uint64{}, eperm}, {"bind", [6]uint64{}, eperm}, {"listen", [6]uint64{}, eperm}, {"accept4", [6]uint64{}, allowed},
		{"open", [6]uint64{}, eacces}, {"openat", [6]uint64{}, eacces}, {"openat2", [6]uint64{}, eacces}, {"statx", [6]uint64{}, eacces},
		{"kill", [6]uint64{self}, eperm}, {"tkill", [6]uint64{self}, eperm}, {"pidfd_send_signal", [6]uint64{}, eperm},
		{"tgkill", [6]uint64{self, 4243}, allowed}, {"tgkill", [6]uint64{1, 1}, eperm}, {"rt_sigqueueinfo", [6]uint64{self}, eperm},
		{"mmap", [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allowed}, {"mmap", [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, eperm},
		{"mprotect", [6]uint64{0, 4096, unix.PROT_EXEC}, eperm}, {"pkey_mprotect", [6]uint64{}, eperm},
		{"prctl", [6]uint64{unix.PR_SET_VMA}, allowed}, {"prctl", [6]uint64{unix.PR_SET_DUMPABLE, 1}, eperm}, {"prctl", [6]uint64{unix.PR_SET_MM}, eperm},
		{"ioctl", [6]uint64{0, unix.TIOCSTI}, eperm}, {"ioctl", [6]uint64{0, unix.TCGETS}, allowed},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, eperm}, {"setsockopt", [6]uint64{3, unix.SOL_TCP, unix.TCP_NODELAY}, allowed},
	}
	for _, name := range []string{"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "memfd_create", "bpf", "keyctl", "add_key",
		"io_uring_setup", "mount", "unshare", "setns", "chroot", "seccomp", "prlimit64", "setuid", "capset", "chmod", "unlinkat", "renameat2", "linkat", "ftruncate", "userfaultfd"} {
		rows = append(rows, row{name, [6]uint64{}, eperm})
	}
	for _, goarch := range archs {
		a, _ := archOf(goarch)
		f := routerFilter(a, self)
		t.Log(goarch, len(f.prog), "instructions")
		check(t, a, f, rows)
	}
}
