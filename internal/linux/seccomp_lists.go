package linux

import "golang.org/x/sys/unix"

// The lists below name, with guestChecked, every call of both architectures
// once; a test holds them to it, so that a call which is new in the tables has
// to be thought about.

// guestNeeds are calls that may not be denied: the Go runtime of the first
// process, the dynamic loader and the C library die without them.
const guestNeeds = `
	read write readv writev close fcntl fstat newfstatat openat lseek
	mmap munmap mprotect brk madvise
	rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack tgkill
	clone execve exit exit_group wait4 waitid futex sched_yield nanosleep gettid getpid
	arch_prctl set_tid_address epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2`

// guestAllowed are allowed whatever their arguments are.
const guestAllowed = `
	read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 close close_range
	lseek flock dup dup2 dup3 pipe pipe2 ftruncate truncate fallocate fadvise64 readahead
	fsync fdatasync sync_file_range sendfile splice tee copy_file_range cachestat
	stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2
	getdents getdents64 getcwd chdir fchdir umask
	link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat rmdir
	chown fchown lchown fchownat utime utimes futimesat utimensat
	setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
	listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr
	inotify_init inotify_init1 inotify_add_watch inotify_rm_watch memfd_create

	mmap munmap mprotect mremap msync mincore madvise brk mlock mlock2 munlock mlockall munlockall mseal
	pkey_mprotect pkey_alloc pkey_free map_shadow_stack membarrier rseq
	shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
	mq_open mq_unlink mq_timedsend mq_timedreceive mq_getsetattr

	fork vfork execve execveat exit exit_group wait4 waitid set_tid_address
	set_robust_list get_robust_list futex futex_waitv futex_wake futex_wait futex_requeue
	kill tkill tgkill pidfd_open pidfd_send_signal restart_syscall pause
	rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo
	rt_tgsigqueueinfo rt_sigsuspend sigaltstack signalfd signalfd4
	getpid gettid getppid getpgid setpgid getpgrp getsid setsid
	getuid geteuid getgid getegid getgroups getresuid getresgid
	setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capget capset
	getrlimit setrlimit prlimit64 getrusage sysinfo times uname getcpu getpriority setpriority
	ioprio_get ioprio_set sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam
	sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
	sched_rr_get_interval sched_getattr sched_setattr
	getrandom landlock_create_ruleset landlock_add_rule landlock_restrict_self

	poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
	eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime
	timer_settime timer_gettime timer_getoverrun timer_delete
	nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time alarm getitimer setitimer

	connect accept accept4 bind listen shutdown getsockname getpeername getsockopt
	sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg`

// guestRefused give EPERM: programs ask for these and go on without, as they
// do for every user who is not root.
const guestRefused = `
	unshare setns
	mount umount2 pivot_root chroot mount_setattr open_tree open_tree_attr move_mount
	fsopen fsconfig fsmount fspick

	ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise process_mrelease
	perf_event_open bpf userfaultfd add_key request_key keyctl
	fanotify_init fanotify_mark name_to_handle_at open_by_handle_at
	quotactl quotactl_fd acct swapon swapoff reboot kexec_load kexec_file_load
	init_module finit_module delete_module iopl ioperm vhangup syslog
	settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname

	sync syncfs vmsplice mq_notify
	mbind set_mempolicy get_mempolicy set_mempolicy_home_node migrate_pages move_pages`

// sync and syncfs write out file systems of the host, which stalls others.
// vmsplice hands pages of a process to a pipe, which nothing but benchmarks
// wants and kernel bugs need. The memory policies choose among the host's
// nodes. mq_notify orders signals, as timer_create can; see guestChecked.

// guestAbsent give ENOSYS, as on a kernel that is older or built without them.
//
// clone3 and openat2 hold their flags in memory, where no filter can look: told
// that they are absent, C libraries call clone and openat. The rings of io_uring
// and the older io_ calls do the work of other system calls past the filter, and
// their users fall back to threads. The rest is obsolete, or younger than its
// users can count on.
const guestAbsent = `
	clone3 openat2
	io_uring_setup io_uring_enter io_uring_register
	io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents
	memfd_secret modify_ldt remap_file_pages lookup_dcookie
	statmount listmount listns file_getattr file_setattr
	setxattrat getxattrat listxattrat removexattrat
	lsm_get_self_attr lsm_set_self_attr lsm_list_modules
	uselib ustat sysfs _sysctl nfsservctl create_module get_kernel_syms query_module
	getpmsg putpmsg afs_syscall tuxcall security vserver
	set_thread_area get_thread_area epoll_ctl_old epoll_wait_old
	uretprobe uprobe rseq_slice_yield`

// guestPrctl are the options of prctl that concern the caller alone and take
// nothing back. Missing are above all PR_SET_MM, PR_SCHED_CORE, the options of
// speculation, securebits and the user dispatch of system calls.
func guestPrctl() []uint32 {
	return []uint32{
		unix.PR_SET_PDEATHSIG, unix.PR_GET_PDEATHSIG, unix.PR_SET_DUMPABLE, unix.PR_GET_DUMPABLE,
		unix.PR_SET_KEEPCAPS, unix.PR_GET_KEEPCAPS, unix.PR_SET_NAME, unix.PR_GET_NAME,
		unix.PR_SET_SECCOMP, unix.PR_GET_SECCOMP, unix.PR_CAPBSET_READ, unix.PR_CAPBSET_DROP, unix.PR_CAP_AMBIENT,
		unix.PR_GET_SECUREBITS, unix.PR_GET_TSC, unix.PR_GET_TIMING,
		unix.PR_SET_TIMERSLACK, unix.PR_GET_TIMERSLACK, unix.PR_SET_CHILD_SUBREAPER, unix.PR_GET_CHILD_SUBREAPER,
		unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_TID_ADDRESS,
		unix.PR_SET_THP_DISABLE, unix.PR_GET_THP_DISABLE, unix.PR_GET_SPECULATION_CTRL, unix.PR_GET_AUXV,
		unix.PR_SET_VMA, unix.PR_SET_MDWE, unix.PR_GET_MDWE,
		// arm64: vector lengths, pointer authentication, memory tags
		unix.PR_SVE_SET_VL, unix.PR_SVE_GET_VL, unix.PR_SME_SET_VL, unix.PR_SME_GET_VL,
		unix.PR_PAC_RESET_KEYS, unix.PR_PAC_SET_ENABLED_KEYS, unix.PR_PAC_GET_ENABLED_KEYS,
		unix.PR_SET_TAGGED_ADDR_CTRL, unix.PR_GET_TAGGED_ADDR_CTRL,
		unix.PR_GET_SHADOW_STACK_STATUS, unix.PR_SET_SHADOW_STACK_STATUS, unix.PR_LOCK_SHADOW_STACK_STATUS,
	}
}

// guestArchPrctl are the options of x86-64's arch_prctl that a C library or a
// program with wide vectors needs. asm/prctl.h
func guestArchPrctl() []uint32 {
	return []uint32{
		0x1001, 0x1002, 0x1003, 0x1004, // the bases of gs and fs
		0x1011,                 // whether cpuid works
		0x1021, 0x1022, 0x1023, // large vector state: ask, ask, want
		0x5001, 0x5002, 0x5003, 0x5005, // the shadow stack, but not its unlocking
	}
}
