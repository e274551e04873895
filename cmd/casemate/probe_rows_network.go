package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Attacks through networks and sockets.
var probeNetworkRows = []probeRow{
	{name: "tcp", tried: "connect to listeners at 127.0.0.1, ::1 and an address of the probe's own",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.reached(s.sender(ctx, r), r, []string{"127.0.0.1:0", "[::1]:0", serverAddr + ":0"}, nil)
		}},
	{name: "metadata-api", tried: "connect to 169.254.169.254, where clouds keep credentials, here a listener of the probe's",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.reached(s.sender(ctx, r), r, []string{metadataAddr + ":80"}, nil)
		}},
	{name: "dns-tunnel", tried: "send datagrams to name servers at 127.0.0.1, 127.0.0.53, 192.0.2.53 and 169.254.169.254, here sockets of the probe's",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.reached(s.sender(ctx, r), r, nil, []string{"127.0.0.1:0", "127.0.0.53:53", resolverAddr + ":53", metadataAddr + ":53"})
		}},
	{name: "way-out", tried: "look for a route or a network device beyond loopback",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "attacker", words("routes", "interfaces")...)
		}},
	{name: "abstract-socket", tried: "connect to an abstract unix socket of the host",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			name := "casemate-probe-" + strconv.Itoa(os.Getpid())
			s.unixTrap(ctx, r, "@"+name, "abstract", name)
		}},
	{name: "unix-socket", tried: "connect to a unix socket of the host by its path; look for those of docker, containerd, dbus, an ssh agent and X11",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			dir, err := os.Open(s.place.path("victim"))
			if err != nil {
				r.failed("%v", err)
				return
			}
			defer dir.Close()
			defer os.Remove(s.place.path("victim/s"))
			s.unixTrap(ctx, r, fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd()), "connect", "unix", s.place.path("victim/s"))
			if r.Verdict != verdictHeld {
				return
			}
			do := words("exists /var/run/docker.sock", "exists /run/docker.sock", "exists /run/containerd/containerd.sock", "exists /run/dbus/system_bus_socket", "exists /tmp/.X11-unix", "exists /run/user")
			if agent := os.Getenv("SSH_AUTH_SOCK"); filepath.IsAbs(agent) {
				do = append(do, []string{"exists", agent})
			}
			was := r.Evidence
			if s.none(ctx, r, "attacker", do...); r.Verdict == verdictHeld {
				r.Evidence = was + "; of the others none is there"
			}
		}},
	{name: "shared-memory", tried: "find a System V segment of the host by its key", run: (*probeSite).sharedMemory},
}

// sender makes attempts and says whether all were made.
func (s *probeSite) sender(ctx context.Context, r *attackRow) func([][]string) bool {
	return func(do [][]string) bool {
		_, ok := s.try(ctx, r, "attacker", do...)
		return ok
	}
}

// unixTrap judges an attempt by what a listener counts.
func (s *probeSite) unixTrap(ctx context.Context, r *attackRow, at string, do ...string) {
	t, err := newTrap("unix", at)
	if err != nil {
		r.failed("no unix socket can be made: %v", err)
		return
	}
	o, ok := s.one(ctx, r, "attacker", do...)
	hits := t.close()
	if ok {
		r.judge(hits > 0, "the listener counted %d connections of the sandbox and one of the probe's own: %s", hits, short(o.Got))
	}
}
