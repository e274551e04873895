package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideFlag marks the run of the probe that stands in a network namespace of
// its own.
const insideFlag = "--inside"

// The addresses that attacks go to. They are on the loopback device of a
// namespace made for the probe, and on no other: 169.254.169.254 is where
// clouds keep credentials, and 192.0.2.0/24 belongs to nobody (RFC 5737).
const (
	metadataAddr = "169.254.169.254"
	serverAddr   = "192.0.2.1"
	resolverAddr = "192.0.2.53"
)

// probeApart runs this command again in a network namespace that has nothing
// but what the probe puts there, so that a wall that is broken lets nothing
// out of this machine. It blocks until that run is over and returns its exit
// status. An error says that no such namespace can be made: for an ordinary user
// it would come with a user namespace in which the host's root is nobody, and no
// configuration is trusted.
func probeApart(args []string) (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("this is an ordinary user")
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	// Ctrl-C reaches both; what is sent to this one alone is passed on.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if s != os.Interrupt {
					cmd.Process.Signal(s)
				}
			}
		}
	}()
	err = cmd.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if code := e.ExitCode(); code >= 0 {
			return code, nil
		}
		return 1, nil
	}
	return 0, err
}

// A probeNet is the network namespace that the probe stands in. It is nil where
// none could be made.
type probeNet struct{}

// newProbeNet puts the probe's addresses on the loopback device, having made
// sure that there is no other device: this is not the host's network.
func newProbeNet() (*probeNet, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		if d.Flags&net.FlagLoopback == 0 && d.Flags&net.FlagUp != 0 {
			return nil, fmt.Errorf("this network has a device %s: it is the host's", d.Name)
		}
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return nil, err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return nil, os.NewSyscallError("ioctl SIOCSIFFLAGS", err)
	}
	for i, addr := range []string{metadataAddr, serverAddr, resolverAddr} {
		alias, err := unix.NewIfreq(fmt.Sprintf("lo:%d", i+1))
		if err != nil {
			return nil, err
		}
		if err := alias.SetInet4Addr(net.ParseIP(addr).To4()); err != nil {
			return nil, err
		}
		if err := unix.IoctlIfreq(s, unix.SIOCSIFADDR, alias); err != nil {
			return nil, os.NewSyscallError("ioctl SIOCSIFADDR "+addr, err)
		}
	}
	return &probeNet{}, nil
}

// noNetwork is why a row cannot be tried without a namespace for it.
const noNetwork = "only root can give the probe a network namespace of its own, and no attack goes to an address of the host's that is not loopback"

// loopbackAlone leaves the addresses that need no namespace: listeners of the
// probe's own, which nothing of the host uses.
func loopbackAlone(addrs []string) []string {
	return slices.DeleteFunc(slices.Clone(addrs), func(a string) bool {
		return !strings.HasPrefix(a, "127.0.0.1:") && !strings.HasPrefix(a, "[::1]:")
	})
}

// A well is a UDP socket that counts the datagrams that it gets.
type well struct {
	conn *net.UDPConn
	got  atomic.Int64
	done sync.WaitGroup
}

// newWell sends itself one datagram: a well that nothing can reach would prove
// nothing.
func newWell(addr string) (*well, error) {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	c, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, err
	}
	w := &well{conn: c}
	w.done.Go(func() {
		b := make([]byte, 1)
		for {
			if _, _, err := c.ReadFrom(b); err != nil {
				return
			}
			if b[0] == 0 { // the last one is ours
				return
			}
			w.got.Add(1)
		}
	})
	return w, w.send(1)
}

func (w *well) send(b byte) error {
	c, err := net.Dial("udp", w.conn.LocalAddr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte{b})
	return err
}

// close returns how many datagrams came beside its own.
func (w *well) close() int64 {
	if w.send(0) == nil {
		w.done.Wait()
	}
	w.conn.Close()
	w.done.Wait()
	return w.got.Load() - 1
}

// reached opens traps at TCP addresses and wells at UDP ones, has the attacker
// connect and send to all of them, and judges by what they counted.
func (s *probeSite) reached(run func(do [][]string) bool, r *attackRow, tcp, udp []string) {
	if s.net == nil {
		if tcp, udp = loopbackAlone(tcp), loopbackAlone(udp); len(tcp)+len(udp) == 0 {
			r.na(noNetwork)
			return
		}
	}
	var do [][]string
	var traps []*trap
	var wells []*well
	var hits, datagrams int64
	shut := func() {
		for _, t := range traps {
			hits += t.close()
		}
		for _, w := range wells {
			datagrams += w.close()
		}
		traps, wells = nil, nil
	}
	defer shut()
	for _, a := range tcp {
		t, err := newTrap("tcp", a)
		if err != nil {
			if strings.HasPrefix(a, "[") {
				continue // a host may be without IPv6
			}
			r.failed("no listener at %s: %v", a, err)
			return
		}
		traps = append(traps, t)
		do = append(do, []string{"connect", "tcp", t.Addr().String()})
	}
	for _, a := range udp {
		w, err := newWell(a)
		if err != nil {
			r.failed("no socket at %s: %v", a, err)
			return
		}
		wells = append(wells, w)
		do = append(do, []string{"udp", w.conn.LocalAddr().String()})
	}
	if !run(do) {
		return
	}
	n := len(do)
	shut()
	where := "at addresses in a namespace of the probe's own"
	if s.net == nil {
		where = "at listeners of the probe's own on loopback"
	}
	r.judge(hits+datagrams > 0, "of %s, %s, %d connections and %d datagrams of the sandbox came", plural(n, "attempt"), where, hits, datagrams)
}
