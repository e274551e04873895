package linux

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnpackFilter(t *testing.T) {
	eperm := gives(unix.EPERM)
	const self = 4242
	rows := []row{
		{"clone", [6]uint64{uint64(unix.SIGCHLD)}, eperm},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD}, allowed},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND | unix.CLONE_NEWUSER}, eperm},
		{"tgkill", [6]uint64{self, 4243}, allowed}, {"tgkill", [6]uint64{1, 1}, eperm},
		{"mmap", [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, eperm}, {"mprotect", [6]uint64{0, 4096, unix.PROT_EXEC}, eperm},
		{"prctl", [6]uint64{unix.PR_SET_DUMPABLE, 1}, eperm},
	}
	for _, name := range []string{"openat", "openat2", "newfstatat", "mkdirat", "symlinkat", "linkat", "unlinkat", "utimensat", "getdents64", "fstatfs", "read", "write"} {
		rows = append(rows, row{name, [6]uint64{}, allowed})
	}
	for _, name := range []string{"execve", "execveat", "fork", "vfork", "socket", "socketpair", "connect", "bind", "sendto", "sendmsg", "recvmsg", "accept4",
		"mknod", "mknodat", "rename", "renameat", "renameat2", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "fchownat", "lchown",
		"setxattr", "fsetxattr", "lsetxattr", "setxattrat", "truncate", "ftruncate", "fallocate", "ioctl", "open_by_handle_at", "mount", "open_tree", "chroot", "unshare", "setns",
		"kill", "tkill", "pidfd_open", "pidfd_send_signal", "ptrace", "process_vm_readv", "bpf", "keyctl", "io_uring_setup", "memfd_create", "userfaultfd", "setuid", "capset", "prlimit64", "seccomp"} {
		rows = append(rows, row{name, [6]uint64{}, eperm})
	}
	for _, goarch := range archs {
		a, _ := archOf(goarch)
		f := unpackFilter(a, self)
		t.Log(goarch, len(f.prog), "instructions")
		check(t, a, f, rows)
	}
}
