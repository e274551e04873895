// Package linux is the one place where Casemate speaks to the kernel with raw
// system calls: the seccomp filters, Landlock, capabilities and what else a
// process takes from itself, and the mounts and namespaces of a sandbox.
//
// A Go process has several threads, and most of what the kernel takes away it
// takes from one thread. Every function here that confines does so for all
// threads of the process, or fails; but those whose name ends in Here, which
// confine the calling thread and what it starts. Where the kernel has no call for that they
// rest on syscall.AllThreadsSyscall, which needs a program built without cgo
// and answers ENOTSUP in any other. What cannot be undone is not undone: a
// process that got an error half way is to end.
//
// Limits. A filter sees the numbers of a call and not what its pointers lead
// to; where that matters a comment beside the rule says why the rest is
// harmless. Landlock (ABI 7) knows nothing of stat, chmod, chown, utimes, unix
// sockets by path, MPTCP, UDP or raw sockets: mounts, namespaces and seccomp
// hold those.
package linux
