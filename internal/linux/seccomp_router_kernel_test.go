package linux

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// routerServer serves HTTP on the listener at descriptor 3 under the router's
// filter: work, and what a hijacked router would try.
func routerServer([]string) error {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	if err := NoNewPrivs(); err != nil {
		return err
	}
	if err := NotDumpable(); err != nil {
		return err
	}
	if err := RouterFilter().Install(); err != nil {
		return err
	}
	done := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) != 1000 {
			http.Error(w, "bad body", http.StatusBadRequest)
			return
		}
		b := make([]byte, 200<<10)
		rand.Read(b)
		n, _ := strconv.Atoi(r.FormValue("n"))
		if n%50 == 0 {
			runtime.GC()
		}
		// Work that must be preempted, on more threads than there were.
		busy := make(chan int, 4)
		for range cap(busy) {
			go func() {
				sum := 0
				for i := range 20_000 {
					sum += int(b[i%len(b)])
				}
				busy <- sum
			}()
		}
		time.Sleep(time.Millisecond)
		for range cap(busy) {
			<-busy
		}
		w.Write(b[:1000])
	})
	mux.HandleFunc("/attack", func(w http.ResponseWriter, r *http.Request) {
		parent, _ := strconv.Atoi(r.FormValue("parent"))
		for name, err := range routerAttacks(parent, r.FormValue("listener")) {
			io.WriteString(w, name+" "+reason(err)+"\n")
		}
	})
	mux.HandleFunc("/end", func(http.ResponseWriter, *http.Request) { done <- nil })
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { done <- s.Serve(l) }()
	return <-done
}

func reason(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil, errors.As(err, &errno) && errno == 0:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func routerAttacks(parent int, address string) map[string]error {
	m := map[string]error{}
	_, m["open-shadow"] = os.Open("/etc/shadow")
	_, m["open-null"] = os.Open("/dev/null")
	m["write-file"] = os.WriteFile("/dev/null", []byte("x"), 0o600)
	_, m["stat"] = os.Stat("/etc/shadow")
	m["exec"] = syscall.Exec("/bin/true", []string{"true"}, nil)
	_, m["fork-exec"] = os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	_, m["dial"] = net.Dial("tcp", address)
	_, m["listen"] = net.Listen("tcp", "127.0.0.1:0")
	_, m["socket"] = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	_, m["socketpair"] = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	m["kill-parent"] = unix.Kill(parent, 0)
	m["tgkill-parent"] = unix.Tgkill(parent, parent, 0)
	_, m["pidfd"] = unix.PidfdOpen(parent, 0)
	m["dumpable"] = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	_, m["map-exec"] = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	m["map"] = err
	if err == nil {
		m["protect-exec"] = unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
	}
	_, m["memfd"] = unix.MemfdCreate("x", 0)
	raw := func(name string, a ...uintptr) {
		var v [7]uintptr
		copy(v[:], a)
		_, _, errno := unix.RawSyscall6(v[0], v[1], v[2], v[3], v[4], v[5], v[6])
		m[name] = errno
	}
	none := ^uintptr(0)
	raw("clone", unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_FS) // which the kernel refuses
	raw("clone3", unix.SYS_CLONE3, bad, 88)
	raw("ptrace", unix.SYS_PTRACE, unix.PTRACE_PEEKUSR, none)
	raw("bpf", unix.SYS_BPF, 0, bad, 16)
	raw("io_uring", unix.SYS_IO_URING_SETUP, 0, bad)
	raw("keyctl", unix.SYS_KEYCTL, 9999)
	raw("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER|unix.CLONE_FS)
	raw("mount", unix.SYS_MOUNT, bad, bad, bad, 0, bad)
	raw("chdir", unix.SYS_CHDIR, bad)
	return m
}

func TestRouterServesUnderItsFilter(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := child(t, "router")
	c.ExtraFiles = []*os.File{f}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	address := l.Addr().String()
	l.Close() // the connections are the child's

	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	ask := func(path string, body string) string {
		r, err := client.Post("http://"+address+path, "application/octet-stream", strings.NewReader(body))
		if err != nil {
			select {
			case err := <-ended:
				t.Fatalf("the server ended: %v", err)
			default:
				t.Fatal(err)
			}
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", path, r.Status, err)
		}
		return string(b)
	}
	body := strings.Repeat("x", 1000)
	work := func(from, to int) {
		for n := from; n < to; n++ {
			if got := ask("/work?n="+strconv.Itoa(n), body); len(got) != 1000 {
				t.Fatalf("request %d: %d bytes", n, len(got))
			}
		}
	}
	work(0, 500)
	out := ask("/attack?parent="+strconv.Itoa(os.Getpid())+"&listener="+address, "")
	work(500, 1000)

	want := map[string]string{
		"open-shadow": "EACCES", "open-null": "EACCES", "write-file": "EACCES", "stat": "EACCES", "map": "ok", "clone3": "ENOSYS",
	}
	for _, name := range []string{"exec", "fork-exec", "dial", "listen", "socket", "socketpair", "kill-parent", "tgkill-parent", "pidfd",
		"dumpable", "map-exec", "protect-exec", "memfd", "clone", "ptrace", "bpf", "io_uring", "keyctl", "unshare", "mount", "chdir"} {
		want[name] = "EPERM"
	}
	expect(t, out, want)
	client.Post("http://"+address+"/end", "", nil)
	if err := <-ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}
