package linux

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// UnpackFilter is the filter of a Go program that makes files beneath a folder
// which it has open: what RouterFilter allows, without sockets, and the calls
// that open, make, link, remove and list files. Which files those are is
// Landlock's to say. It makes no device, FIFO or socket, renames nothing, sets
// no mode, owner or extended attribute, starts nothing, and signals only its own
// threads. What it refuses gives EPERM. On a processor that there is no filter
// for, it is the zero Filter, which cannot be installed.
func UnpackFilter() Filter {
	a, err := thisArch()
	if err != nil {
		return Filter{}
	}
	return unpackFilter(a, uint32(syscall.Getpid()))
}

func unpackFilter(a arch, pid uint32) Filter {
	allow, refuse := act(unix.SECCOMP_RET_ALLOW), errno(unix.EPERM)
	decide := goRuntime(allow, refuse, pid)
	for _, name := range strings.Fields(unpackAllowed) {
		decide[name] = allow
	}
	return a.filter(func(name string) *decision {
		if d := decide[name]; d != nil {
			return d
		}
		return refuse
	})
}

const unpackAllowed = `
	read write readv writev pread64 close fstat lseek fcntl dup dup3
	openat openat2 newfstatat fstatfs getdents64 mkdirat symlinkat linkat unlinkat utimensat
	poll ppoll epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
	munmap madvise mincore brk futex sched_yield sched_getaffinity membarrier rseq
	set_robust_list set_tid_address restart_syscall
	rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack
	nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time
	getpid gettid getppid getuid geteuid getgid getegid getrandom getrusage uname
	exit exit_group`
