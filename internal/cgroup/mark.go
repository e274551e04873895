package cgroup

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const prefix = "casemate-"

// ownMark names this spawner: casemate-PID.START.PIDNS, where START is its
// start time in ticks and PIDNS its pid namespace.
func ownMark() string {
	_, start := statOf(os.Getpid())
	return prefix + strconv.Itoa(os.Getpid()) + "." + strconv.FormatUint(start, 10) + "." + strconv.FormatUint(pidSpace(), 10)
}

// parseMark returns the spawner that a folder's name belongs to.
func parseMark(name string) (pid int, start, space uint64, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	mark, _, _ := strings.Cut(rest, "-")
	f := strings.Split(mark, ".")
	if !ok || len(f) != 3 {
		return 0, 0, 0, false
	}
	pid, err1 := strconv.Atoi(f[0])
	start, err2 := strconv.ParseUint(f[1], 10, 64)
	space, err3 := strconv.ParseUint(f[2], 10, 64)
	return pid, start, space, err1 == nil && err2 == nil && err3 == nil && pid > 0
}

// gone says whether a folder is ours and its spawner, of this pid namespace,
// no longer runs.
func gone(name string) bool {
	pid, start, space, ok := parseMark(name)
	if !ok || space == 0 || space != pidSpace() {
		return false
	}
	if err := unix.Kill(pid, 0); err == unix.ESRCH {
		return true
	}
	_, now := statOf(pid)
	return now != 0 && now != start
}

func pidSpace() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino
}

// statOf returns a process's parent and start time, 0 if it cannot be read.
func statOf(pid int) (parent int, start uint64) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0
	}
	return parseStat(string(b))
}

func parentOf(pid int) int {
	parent, _ := statOf(pid)
	return parent
}

// parseStat reads a /proc/PID/stat (proc(5)); the name, which the process
// chooses, ends at the last parenthesis.
func parseStat(text string) (parent int, start uint64) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(f[1])
	start, _ = strconv.ParseUint(f[19], 10, 64)
	return parent, start
}
