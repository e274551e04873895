// Attacker is the program that the escape corpus runs inside a sandbox. It
// makes one attempt, named by its first argument, on a victim that the test
// made, named by the others, and prints one line of JSON: what it tried, and
// whether it got through. It is bounded in count, time and size, and refuses
// to run where it can see that it is not in a sandbox.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An Outcome is what the attacker prints. Through is the attack's own view;
// the test looks at its victim too.
type Outcome struct {
	Tried   string `json:"tried"`
	Through bool   `json:"through"`
	Got     string `json:"got"`
}

var verbs = map[string]func(args []string) (string, error){
	"read": read, "write": write, "list": list, "mkdir": mkdir, "rename": rename, "symlink": symlink, "link": link, "chmod": chmod, "creat": creat,
	"mknod": mknod, "fifo": fifo, "connect": connect, "abstract": abstract, "socket": socket, "syscall": syscallNumber, "kill": kill,
	"pids": pids, "fds": fds, "environ": environ, "fork": fork, "memory": memory, "descriptors": descriptors, "output": output, "ioctl": ioctl,
	"linkadd": linkAdd, "listen": listen, "push": push, "inflight": inflight, "pipes": pipes, "inotify": inotify, "sendfd": sendFD, "status": status,
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "attacker VERB ARGUMENTS")
		os.Exit(2)
	}
	// The first process of a sandbox has this name, and no other machine's has.
	if comm, err := os.ReadFile("/proc/1/comm"); err != nil || strings.TrimSpace(string(comm)) != "casemate-init" {
		fmt.Fprintln(os.Stderr, "attacker: this is no sandbox")
		os.Exit(2)
	}
	got, err := verbs[os.Args[1]](os.Args[2:])
	o := Outcome{Tried: strings.Join(os.Args[1:], " "), Through: err == nil, Got: got}
	if err != nil {
		o.Got = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(o)
}

func read(a []string) (string, error) {
	b, err := os.ReadFile(a[0])
	return string(b[:min(len(b), 4096)]), err
}

func write(a []string) (string, error) {
	// A FIFO without a reader must not block.
	f, err := os.OpenFile(a[0], os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = f.WriteString(a[1])
	return "", err
}

func list(a []string) (string, error) {
	es, err := os.ReadDir(a[0])
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return strings.Join(names, " "), err
}

func mkdir(a []string) (string, error) { return "", os.MkdirAll(a[0], 0o755) }
func rename(a []string) (string, error) {
	return "", os.Rename(a[0], a[1])
}
func symlink(a []string) (string, error) { return "", os.Symlink(a[0], a[1]) }
func link(a []string) (string, error)    { return "", os.Link(a[0], a[1]) }

func chmod(a []string) (string, error) {
	m, err := strconv.ParseUint(a[1], 8, 32)
	if err != nil {
		return "", err
	}
	return "", unix.Fchmodat(unix.AT_FDCWD, a[0], uint32(m), 0)
}

func creat(a []string) (string, error) {
	m, err := strconv.ParseUint(a[1], 8, 32)
	if err != nil {
		return "", err
	}
	fd, err := unix.Open(a[0], unix.O_CREAT|unix.O_WRONLY, uint32(m))
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(a[2]))
	return "", err
}

func mknod(a []string) (string, error) {
	return "", unix.Mknod(a[0], unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
}

func fifo(a []string) (string, error) { return "", unix.Mkfifo(a[0], 0o666) }

func connect(a []string) (string, error) {
	c, err := net.DialTimeout(a[0], a[1], 2*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_, err = c.Write([]byte("CANARY"))
	return "", err
}

func listen(a []string) (string, error) {
	l, err := net.Listen("tcp", a[0])
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
	fd, err := unix.Socket(n[0], n[1], n[2])
	if err == nil {
		unix.Close(fd)
	}
	return "", err
}

// syscallNumber makes one system call with zero arguments or those given; a
// call that the filter refuses does not reach the kernel's own checks, so the
// error tells which it was.
func syscallNumber(a []string) (string, error) {
	var n [7]uintptr
	for i := range a {
		v, err := strconv.ParseUint(a[i], 0, 64)
		if err != nil {
			return "", err
		}
		n[i] = uintptr(v)
	}
	_, _, errno := unix.Syscall6(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
	if errno == unix.EPERM || errno == unix.ENOSYS || errno == unix.EAFNOSUPPORT || errno == unix.EACCES {
		return "", errno
	}
	return "the kernel answered: " + errno.Error(), nil
}

func kill(a []string) (string, error) {
	pid, err := strconv.Atoi(a[0])
	if err != nil {
		return "", err
	}
	return "", unix.Kill(pid, unix.SIGURG) // ignored by default: a victim outside comes to no harm
}

func pids([]string) (string, error) {
	es, err := os.ReadDir("/proc")
	n := 0
	for _, e := range es {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			n++
		}
	}
	return strconv.Itoa(n), err
}

// fds lists the descriptors beyond the standard ones that this program was
// started with and where they point; the runtime's own are left out.
func fds([]string) (string, error) {
	es, err := os.ReadDir("/proc/self/fd")
	var out []string
	for _, e := range es {
		l, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if n, _ := strconv.Atoi(e.Name()); n > 2 && l != "" && !strings.HasPrefix(l, "anon_inode:") && !strings.HasPrefix(l, "/proc/") {
			out = append(out, e.Name()+"="+l)
		}
	}
	cwd, _ := os.Getwd()
	return strings.Join(append(out, "cwd="+cwd), " "), err
}

func environ([]string) (string, error) {
	all := strings.Join(os.Environ(), "\n")
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range paths {
		b, _ := os.ReadFile(p)
		all += string(b)
	}
	return all, nil
}

// fork makes up to a[0] children that sleep, and says how many it got.
func fork(a []string) (string, error) {
	most, err := strconv.Atoi(a[0])
	if err != nil || most > 4096 {
		return "", fmt.Errorf("how many?")
	}
	n := 0
	for ; n < most; n++ {
		p, err := os.StartProcess("/bin/sleep", []string{"sleep", "20"}, &os.ProcAttr{})
		if err != nil {
			return strconv.Itoa(n), nil
		}
		p.Release()
	}
	return strconv.Itoa(n), nil
}

// memory touches up to a[0] MiB and says so when it could.
func memory(a []string) (string, error) {
	most, err := strconv.Atoi(a[0])
	if err != nil || most > 2048 {
		return "", fmt.Errorf("how much?")
	}
	var keep [][]byte
	for range most {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
	return strconv.Itoa(len(keep)), nil
}

func descriptors([]string) (string, error) {
	n := 0
	for ; n < 100_000; n++ {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			break
		}
	}
	return strconv.Itoa(n), nil
}

func output(a []string) (string, error) {
	most, err := strconv.Atoi(a[0])
	if err != nil || most > 1<<30 {
		return "", fmt.Errorf("how much?")
	}
	b := []byte(strings.Repeat("y", 1<<16))
	for n := 0; n < most; n += len(b) {
		if _, err := os.Stdout.Write(b); err != nil {
			return "", err
		}
	}
	return "", nil
}

// ioctl asks for a terminal's TIOCSTI with high bits set, on a terminal of
// its own.
func ioctl([]string) (string, error) {
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	b := []byte("x\x00\x00\x00\x00\x00\x00\x00")
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(m), 0xdead_0000_0000_0000|unix.TIOCSTI, ptr(b))
	if errno == 0 {
		return "", nil
	}
	return "", errno
}

// push writes a line into the controlling terminal's input, plainly and with
// high bits set.
func push([]string) (string, error) {
	var got []string
	for _, request := range []uintptr{unix.TIOCSTI, 0xdead_0000_0000_0000 | unix.TIOCSTI} {
		var errno unix.Errno
		for _, c := range []byte("PUSHED\n") {
			if _, _, errno = unix.Syscall(unix.SYS_IOCTL, 0, request, ptr([]byte{c, 0, 0, 0, 0, 0, 0, 0})); errno != 0 {
				break
			}
		}
		got = append(got, errno.Error())
	}
	return strings.Join(got, ", "), nil
}

// linkAdd asks the kernel by netlink for a new network device.
func linkAdd([]string) (string, error) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
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

// inflight puts descriptors on the way in sockets, until the kernel refuses.
func inflight([]string) (string, error) {
	n := 0
	for n < 20_000 {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		if err != nil {
			break
		}
		for n < 20_000 {
			if err := unix.Sendmsg(p[0], []byte("x"), unix.UnixRights(p[0], p[1]), nil, unix.MSG_DONTWAIT); err != nil {
				break
			}
			n += 2
		}
	}
	time.Sleep(3 * time.Second)
	return strconv.Itoa(n), nil
}

// sendFD puts one descriptor on the way, as any program may.
func sendFD([]string) (string, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return "", err
	}
	return "", unix.Sendmsg(p[0], []byte("x"), unix.UnixRights(p[0]), nil, unix.MSG_DONTWAIT)
}

// pipes fills pipes up to the user's soft limit of pipe pages.
func pipes([]string) (string, error) {
	n := 0
	for ; n < 2000; n++ {
		var p [2]int
		if unix.Pipe(p[:]) != nil {
			break
		}
		unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, 1<<20)
	}
	time.Sleep(3 * time.Second)
	return strconv.Itoa(n), nil
}

func inotify([]string) (string, error) {
	n := 0
	for ; n < 2000; n++ {
		if _, err := unix.InotifyInit1(0); err != nil {
			break
		}
	}
	time.Sleep(3 * time.Second)
	return strconv.Itoa(n), nil
}

func status([]string) (string, error) { return read([]string{"/proc/self/status"}) }
