package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/attack"
)

// attackerAt is where the sandboxes of the demo find this binary. It is their
// hostile program: a host needs no compiler and no Python for the attacks.
const attackerAt = "/attacker/casemate"

// Words of the attacker, by which the demo knows what became of a try.
const (
	wordThrough = "THROUGH"
	wordStopped = "stopped"
)

// attackerCommand is the guest's side of demo and probe: it makes attempts and
// prints one line for each, or those that it reads as a batch of package
// attack. It runs in a sandbox and nowhere else.
func (a *app) attackerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "attacker VERB ARG…", Hidden: true, Args: cobra.MinimumNArgs(1),
		RunE: runs(func(_ *cobra.Command, args []string) error {
			if err := attack.Inside(); err != nil {
				return invalid("attacker", "casemate demo and casemate probe run it, in sandboxes", "%w", err)
			}
			if args[0] == "-" {
				return attack.Serve(os.Stdin, os.Stdout)
			}
			verb, args := args[0], args[1:]
			if len(args) == 0 {
				args = []string{""}
			}
			for _, arg := range args {
				got, err := attempt(verb, arg)
				word := wordThrough
				if err != nil {
					word, got = wordStopped, err.Error()
				}
				if err := a.line("%s %s: %s", word, strings.TrimSpace(verb+" "+escapeLine(arg)), escapeLine(got)); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// attempt makes one attempt. Each is bounded, is aimed at what the demo made
// or at the sandbox itself, and does no harm where the wall is gone.
func attempt(verb, arg string) (string, error) {
	switch verb {
	case "tcp", "unix", "abstract":
		network, addr := "unix", arg
		if verb == "tcp" {
			network = "tcp"
		} else if verb == "abstract" {
			addr = "@" + arg
		}
		c, err := net.DialTimeout(network, addr, 2*time.Second)
		if err != nil {
			return "", err
		}
		defer c.Close()
		_, err = c.Write([]byte(canary))
		return "connected", err
	case "fifo":
		f, err := os.OpenFile(arg, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		_, err = f.WriteString(canary)
		return "wrote to it", err
	case "socket":
		return openSocket(arg)
	case "userns":
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		return "a process runs in a user namespace of its own, where it has every capability", cmd.Run()
	case "keyctl":
		id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
		return fmt.Sprintf("a keyring, number %d", id), err
	case "perf":
		fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Size: uint32(unix.PERF_ATTR_SIZE_VER1), Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err == nil {
			unix.Close(fd)
		}
		return "a performance counter", err
	case "memory":
		n, err := strconv.Atoi(arg)
		if err != nil || n > 4096 {
			return "", errors.New("a number of MiB up to 4096")
		}
		return fmt.Sprintf("holds %d MiB", len(hoard(n))), nil
	}
	return "", fmt.Errorf("no verb %q", verb)
}

// hoard takes n MiB and touches every page of it.
func hoard(n int) [][]byte {
	all := make([][]byte, 0, n)
	for range n {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
	return all
}

// openSocket opens a socket and connects it to nothing: a vsock's other end is
// the machine's hypervisor.
func openSocket(family string) (string, error) {
	of := map[string][3]int{
		"vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0}, "alg": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		"packet": {unix.AF_PACKET, unix.SOCK_RAW, 0}, "netlink": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC},
	}
	s, ok := of[family]
	if !ok {
		return "", fmt.Errorf("no family %q", family)
	}
	fd, err := unix.Socket(s[0], s[1]|unix.SOCK_CLOEXEC, s[2])
	if err == nil {
		unix.Close(fd)
	}
	return "a socket", err
}
