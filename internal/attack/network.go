package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Canary is what a victim must not receive.
const Canary = "CANARY"

const dialTime = 2 * time.Second

func connect(a []string) (string, error) {
	c, err := net.DialTimeout(a[0], a[1], dialTime)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_, err = c.Write([]byte(Canary))
	return "", err
}

// udp sends one datagram to each address; that it was sent says little, and
// who made the address looks whether it came.
func udp(a []string) (string, error) {
	var errs []error
	for _, addr := range a {
		c, err := net.DialTimeout("udp", addr, dialTime)
		if err == nil {
			_, err = c.Write([]byte(Canary))
			c.Close()
		}
		if err == nil {
			return addr, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

func listen(a []string) (string, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false) // for which Landlock has no rule, and the filter no family
	l, err := c.Listen(context.Background(), "tcp", a[0])
	if err == nil {
		l.Close()
	}
	return "", err
}

func abstract(a []string) (string, error) { return connect([]string{"unix", "@" + a[0]}) }

func socket(a []string) (string, error) {
	var n [3]int
	for i := range n {
		v, err := strconv.Atoi(a[i])
		if err != nil {
			return "", err
		}
		n[i] = v
	}
	fd, err := unix.Socket(n[0], n[1]|unix.SOCK_CLOEXEC, n[2])
	if err == nil {
		unix.Close(fd)
	}
	return "", err
}

// routes returns the routes that leave the sandbox: those of no loopback
// device.
func routes([]string) (string, error) {
	var out []string
	for path, device := range map[string]int{"/proc/net/route": 0, "/proc/net/ipv6_route": 9} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > device && f[device] != "lo" && f[device] != "Iface" {
				out = append(out, strings.Join(f, ","))
			}
		}
	}
	if len(out) > 0 {
		return strings.Join(out, " "), nil
	}
	return "", errors.New("no route leaves it")
}

// interfaces returns the network devices other than loopback.
func interfaces([]string) (string, error) {
	b, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return "", err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name != "lo" {
			out = append(out, name)
		}
	}
	if len(out) > 0 {
		return strings.Join(out, " "), nil
	}
	return "", errors.New("loopback alone")
}

// linkAdd asks the kernel by netlink for a new network device.
func linkAdd([]string) (string, error) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return "", err
	}
	defer unix.Close(s)
	msg := make([]byte, 32)
	msg[0], msg[4], msg[6], msg[7] = 32, unix.RTM_NEWLINK, 5, 6 // NLM_F_REQUEST|ACK, CREATE|EXCL
	if err := unix.Sendto(s, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return "", err
	}
	unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s, buf, 0)
	if err != nil || n < 20 {
		return "", fmt.Errorf("no answer: %v", err)
	}
	if errno := -int32(uint32(buf[16]) | uint32(buf[17])<<8 | uint32(buf[18])<<16 | uint32(buf[19])<<24); errno != 0 {
		return "", unix.Errno(errno)
	}
	return "", nil
}

// sendFD puts one descriptor on the way, as any program may.
func sendFD([]string) (string, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	return "", unix.Sendmsg(p[0], []byte("x"), unix.UnixRights(p[0]), nil, unix.MSG_DONTWAIT)
}
