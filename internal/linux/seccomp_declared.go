package linux

import "golang.org/x/sys/unix"

// GuestCalls returns the numbers of this architecture's system calls that
// GuestFilter lets a guest make, with some arguments at least: the whole
// surface of the kernel that a guest has. It is what an attacker's own list of
// what it was answered is compared with.
func GuestCalls() (map[int]string, error) {
	a, err := thisArch()
	if err != nil {
		return nil, err
	}
	decide := decisions(nil, ownNetwork)
	out := map[int]string{}
	for _, c := range a.calls {
		if d := decide(c.name); d.answers != nil || d.action == unix.SECCOMP_RET_ALLOW {
			out[int(c.nr)] = c.name
		}
	}
	return out, nil
}
