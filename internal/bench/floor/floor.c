// What the kernel alone needs for a fresh sandbox: clone(2) with every
// namespace, the maps of its user, a tmpfs, a proc, and its end. Nothing is
// executed, and there is no Landlock, no seccomp and no cgroup.
//
//	floor 0	without a network namespace
//	floor 1	with one
//	floor 2	none of it: two switches between processes
//
// For each byte of standard input it does it once and answers with a byte.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int put(const char *file, const char *text) {
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	int bad = fd < 0 || write(fd, text, strlen(text)) < 0;
	close(fd);
	return bad;
}

int main(int argc, char **argv) {
	int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
	int mode = argc > 1 ? atoi(argv[1]) : 1;
	if (mode == 1)
		flags |= CLONE_NEWNET;
	char uid[64], gid[64], c;
	snprintf(uid, sizeof uid, "0 %d 1", (int)getuid());
	snprintf(gid, sizeof gid, "0 %d 1", (int)getgid());
	while (read(0, &c, 1) == 1) {
		if (mode == 2) {
			if (write(1, &c, 1) != 1)
				return 1;
			continue;
		}
		long pid = syscall(SYS_clone, (long)(flags | SIGCHLD), 0L, 0L, 0L, 0L);
		if (pid == 0)
			_exit(put("/proc/self/uid_map", uid) || put("/proc/self/setgroups", "deny") || put("/proc/self/gid_map", gid) ||
			      mount(0, "/", 0, MS_REC | MS_PRIVATE, 0) || mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, 0) ||
			      mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0));
		int status = 1;
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			return 1;
		if (write(1, &c, 1) != 1)
			return 1;
	}
	return 0;
}
