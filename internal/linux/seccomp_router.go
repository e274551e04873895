package linux

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RouterFilter is the filter of a Go server that serves the descriptors which
// it has, and can get no other but from accept and from its peers: the router.
//
// It opens no file, makes no socket, starts no program and no process, makes no
// memory executable, and sends no signal but to its own threads (the Go runtime
// preempts by them; the number of this process is part of the program, so make
// the filter in the process that installs it). What it refuses gives EPERM, and
// opening a file EACCES, which the standard library takes for a file that it
// may not read: the local time zone, if it was not asked for before, is UTC.
//
// On a processor that there is no filter for, it is the zero Filter, which
// cannot be installed.
func RouterFilter() Filter {
	a, err := thisArch()
	if err != nil {
		return Filter{}
	}
	return routerFilter(a, uint32(syscall.Getpid()))
}

func routerFilter(a arch, pid uint32) Filter {
	allow, refuse := act(unix.SECCOMP_RET_ALLOW), errno(unix.EPERM)
	decide := goRuntime(allow, refuse, pid)
	decide["ioctl"] = on(arg(1), whole, allow, refuse, unix.TCGETS, unix.TIOCGWINSZ) // is it a terminal
	decide["setsockopt"] = sockopt(allow, refuse)
	for _, name := range strings.Fields(routerAllowed) {
		decide[name] = allow
	}
	for _, name := range strings.Fields(routerPaths) {
		decide[name] = errno(unix.EACCES)
	}
	return a.filter(func(name string) *decision {
		if d := decide[name]; d != nil {
			return d
		}
		return refuse
	})
}

// goRuntime decides on the calls of which a Go program needs a part.
func goRuntime(allow, refuse *decision, pid uint32) map[string]*decision {
	return map[string]*decision{
		// A thread of this process, and nothing else that clone can make.
		"clone": on(arg(0), unix.CLONE_THREAD|unix.CLONE_VM,
			on(arg(0), newSpaces, allow, refuse, 0), refuse, unix.CLONE_THREAD|unix.CLONE_VM),
		"clone3":   errno(unix.ENOSYS), // its flags are in memory
		"tgkill":   on(arg(0), whole, allow, refuse, pid),
		"mmap":     on(arg(2), unix.PROT_EXEC, allow, refuse, 0),
		"mprotect": on(arg(2), unix.PROT_EXEC, allow, refuse, 0),
		"prctl": on(arg(0), whole, allow, refuse,
			unix.PR_SET_VMA, // the runtime names its memory
			unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_GET_DUMPABLE, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP),
	}
}

// routerPaths are the calls by which the standard library looks for files.
const routerPaths = `open openat openat2 creat stat lstat newfstatat statx readlink readlinkat access faccessat faccessat2`

const routerAllowed = `
	read write readv writev pread64 close fstat lseek fcntl dup dup3 pipe2 splice sendfile
	accept accept4 shutdown getsockname getpeername getsockopt sendto recvfrom sendmsg recvmsg
	poll ppoll epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
	munmap madvise mincore brk futex sched_yield sched_getaffinity membarrier rseq
	set_robust_list set_tid_address restart_syscall
	rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack
	nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time
	getpid gettid getppid getuid geteuid getgid getegid getrandom getrusage uname
	exit exit_group`
