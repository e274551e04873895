package main

import (
	"bufio"
	"fmt"
	"os"
	"syscall"
)

// The user ids of routers that root starts: 2^31 - 2^22 and the process id of
// who starts it, which is below 2^22 (PID_MAX_LIMIT), so that no two routers
// share one. They are above the ranges that systems and containers hand out,
// and below those of the sandboxes (2^31), so that a router and a guest cannot
// signal, trace or starve each other. Never 0, and never nobody (65534), which
// other services share.
const (
	routerUidBase  = 1<<31 - routerUidCount
	routerUidCount = 1 << 22
	nobody         = 65534
)

// routerCredential returns whom a router of this process runs as: its own
// unprivileged user where euid is root, and the caller (nil) otherwise. In a
// user namespace that maps few ids it is the highest that is mapped; where
// only root is, root is as unprivileged as the caller, and stays.
func routerCredential(euid, pid int) *syscall.Credential {
	if euid != 0 {
		return nil
	}
	want := uint32(routerUidBase + pid%routerUidCount)
	uid, ok1 := mapped("/proc/self/uid_map", want)
	gid, ok2 := mapped("/proc/self/gid_map", want)
	if !ok1 || !ok2 {
		return nil
	}
	return &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{}}
}

// mapped returns want where the id map holds it, else its highest other id.
func mapped(file string, want uint32) (uint32, bool) {
	f, err := os.Open(file)
	if err != nil {
		return want, true
	}
	defer f.Close()
	var best uint64
	for s := bufio.NewScanner(f); s.Scan(); {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(s.Text(), &inside, &outside, &count); err != nil || count == 0 {
			continue
		}
		if uint64(want) >= inside && uint64(want) < inside+count {
			return want, true
		}
		last := min(inside+count-1, 1<<32-2)
		if last == nobody && last > inside {
			last--
		}
		if last != nobody && last > best {
			best = last
		}
	}
	return uint32(best), best != 0
}
