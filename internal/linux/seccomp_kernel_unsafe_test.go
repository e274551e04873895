package linux

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests here make the calls for real. Each attack is harmless where its
// wall is missing: it carries an argument that the kernel refuses, or touches
// only what the test made.

func installGuest(deny ...string) error {
	runtime.LockOSThread()
	if err := NoNewPrivs(); err != nil {
		return err
	}
	f, err := GuestFilter(deny)
	if err != nil {
		return err
	}
	return f.Install()
}

// bad is an address that no program has.
const bad = ^uintptr(4095)

// refusedCalls are what a guest must not reach, with arguments that do nothing.
func refusedCalls() map[string][7]uintptr {
	none := ^uintptr(0)
	ringed := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	return map[string][7]uintptr{
		// The kernel refuses CLONE_FS beside a user namespace.
		"clone":             {unix.SYS_CLONE, unix.CLONE_NEWUSER | unix.CLONE_FS},
		"unshare":           {unix.SYS_UNSHARE, unix.CLONE_NEWUSER | unix.CLONE_FS},
		"setns":             {unix.SYS_SETNS, none, 0},
		"mount":             {unix.SYS_MOUNT, bad, bad, bad, 0, bad},
		"umount2":           {unix.SYS_UMOUNT2, bad, 0},
		"pivot_root":        {unix.SYS_PIVOT_ROOT, bad, bad},
		"chroot":            {unix.SYS_CHROOT, bad},
		"mount_setattr":     {unix.SYS_MOUNT_SETATTR, none, bad},
		"open_tree":         {unix.SYS_OPEN_TREE, none, bad},
		"move_mount":        {unix.SYS_MOVE_MOUNT, none, bad, none, bad},
		"fsopen":            {unix.SYS_FSOPEN, bad},
		"fsconfig":          {unix.SYS_FSCONFIG, none},
		"fsmount":           {unix.SYS_FSMOUNT, none},
		"fspick":            {unix.SYS_FSPICK, none, bad},
		"ptrace":            {unix.SYS_PTRACE, unix.PTRACE_PEEKUSR, none},
		"process_vm_readv":  {unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid()), bad, 1, bad, 1},
		"process_vm_writev": {unix.SYS_PROCESS_VM_WRITEV, uintptr(os.Getpid()), bad, 1, bad, 1},
		"kcmp":              {unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(os.Getpid()), 99},
		"pidfd_getfd":       {unix.SYS_PIDFD_GETFD, none, 0},
		"perf_event_open":   {unix.SYS_PERF_EVENT_OPEN, bad},
		"bpf":               {unix.SYS_BPF, 0, bad, 16},
		"userfaultfd":       {unix.SYS_USERFAULTFD, none},
		"add_key":           {unix.SYS_ADD_KEY, bad, bad},
		"request_key":       {unix.SYS_REQUEST_KEY, bad, bad},
		"keyctl":            {unix.SYS_KEYCTL, 9999},
		"fanotify_init":     {unix.SYS_FANOTIFY_INIT, none},
		"fanotify_mark":     {unix.SYS_FANOTIFY_MARK, none},
		"name_to_handle_at": {unix.SYS_NAME_TO_HANDLE_AT, none, bad},
		"open_by_handle_at": {unix.SYS_OPEN_BY_HANDLE_AT, none, bad},
		"quotactl":          {unix.SYS_QUOTACTL, none, bad},
		"quotactl_fd":       {unix.SYS_QUOTACTL_FD, none},
		"acct":              {unix.SYS_ACCT, bad},
		"swapon":            {unix.SYS_SWAPON, bad},
		"swapoff":           {unix.SYS_SWAPOFF, bad},
		"reboot":            {unix.SYS_REBOOT, 0, 0, 0},
		"kexec_load":        {unix.SYS_KEXEC_LOAD, 0, 0, 0, 0xff00},
		"init_module":       {unix.SYS_INIT_MODULE, bad, 0, bad},
		"finit_module":      {unix.SYS_FINIT_MODULE, none, bad},
		"delete_module":     {unix.SYS_DELETE_MODULE, bad},
		"syslog":            {unix.SYS_SYSLOG, 9999},
		"settimeofday":      {unix.SYS_SETTIMEOFDAY, bad, bad},
		"clock_settime":     {unix.SYS_CLOCK_SETTIME, 9999, bad},
		"adjtimex":          {unix.SYS_ADJTIMEX, bad},
		"clock_adjtime":     {unix.SYS_CLOCK_ADJTIME, 9999, bad},
		"sethostname":       {unix.SYS_SETHOSTNAME, bad, none},
		"setdomainname":     {unix.SYS_SETDOMAINNAME, bad, none},
		"personality":       {unix.SYS_PERSONALITY, 0x0040000},
		"prctl-mm":          {unix.SYS_PRCTL, unix.PR_SET_MM, 9999},
		"prctl-core":        {unix.SYS_PRCTL, unix.PR_SCHED_CORE, 9999},
		"seccomp-listener":  {unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, ringed, bad},
		"packet":            {unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, 255},
		"icmp6":             {unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_RAW, 58},
	}
}

// absentCalls are answered like those of an older kernel.
func absentCalls() map[string][7]uintptr {
	none := ^uintptr(0)
	return map[string][7]uintptr{
		"clone3":            {unix.SYS_CLONE3, bad, 88},
		"openat2":           {unix.SYS_OPENAT2, none, bad, bad, 24},
		"io_uring_setup":    {unix.SYS_IO_URING_SETUP, 0, bad},
		"io_uring_enter":    {unix.SYS_IO_URING_ENTER, none},
		"io_uring_register": {unix.SYS_IO_URING_REGISTER, none},
		"io_setup":          {unix.SYS_IO_SETUP, 1, bad},
		"memfd_secret":      {unix.SYS_MEMFD_SECRET, none},
		"remap_file_pages":  {unix.SYS_REMAP_FILE_PAGES, 1},
		"a-future-call":     {600},
	}
}

func guestCalls([]string) error {
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	fd := ptmx.Fd()
	var one byte = 'x'
	if err := installGuest(); err != nil {
		return err
	}
	raw := func(name string, a [7]uintptr) {
		_, _, errno := unix.RawSyscall6(a[0], a[1], a[2], a[3], a[4], a[5], a[6])
		say(name, errno)
	}
	for name, a := range refusedCalls() {
		raw(name, a)
	}
	for name, a := range absentCalls() {
		raw(name, a)
	}
	for family := uintptr(0); family < 50; family++ {
		raw("socket-"+strconv.Itoa(int(family)), [7]uintptr{unix.SYS_SOCKET, family, unix.SOCK_SEQPACKET})
	}
	for name, protocol := range map[string]uintptr{"route": unix.NETLINK_ROUTE, "audit": unix.NETLINK_AUDIT, "netfilter": unix.NETLINK_NETFILTER, "crypto": unix.NETLINK_CRYPTO} {
		raw("netlink-"+name, [7]uintptr{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, protocol})
	}
	raw("tcp", [7]uintptr{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0})
	raw("udp6", [7]uintptr{unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_DGRAM, 0})

	p := uintptr(unsafe.Pointer(&one))
	raw("tiocsti", [7]uintptr{unix.SYS_IOCTL, fd, unix.TIOCSTI, p})
	raw("tiocsti-high", [7]uintptr{unix.SYS_IOCTL, fd, unix.TIOCSTI | 1<<32, p})
	raw("tioclinux-high", [7]uintptr{unix.SYS_IOCTL, fd, unix.TIOCLINUX | 0x7fff<<40, p})
	var w unix.Winsize
	raw("tiocgwinsz", [7]uintptr{unix.SYS_IOCTL, fd, unix.TIOCGWINSZ, uintptr(unsafe.Pointer(&w))})

	raw("prctl-dumpable", [7]uintptr{unix.SYS_PRCTL, unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0})
	raw("personality-ask", [7]uintptr{unix.SYS_PERSONALITY, 0xffffffff})
	say("further-filter", Filter{assemble(act(unix.SECCOMP_RET_ALLOW))}.Install())
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	say("socketpair", err)
	unix.Close(fds[0])
	return nil
}

// kernel-surface, ioctl-high-bits, page-cache-write
func TestGuestReachesNoKernelSurface(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("no filter for", runtime.GOARCH)
	}
	want := map[string]string{
		"netlink-audit": "EPROTONOSUPPORT", "netlink-netfilter": "EPROTONOSUPPORT", "netlink-crypto": "EPROTONOSUPPORT",
		"netlink-route": "ok", "tcp": "ok", "udp6": "ok", "tiocgwinsz": "ok", "socketpair": "ok", "further-filter": "ok", "personality-ask": "ok",
		"tiocsti": "EPERM", "tiocsti-high": "EPERM", "tioclinux-high": "EPERM", "prctl-dumpable": "ok",
	}
	for name := range refusedCalls() {
		want[name] = "EPERM"
	}
	for name := range absentCalls() {
		want[name] = "ENOSYS"
	}
	for family := range 50 {
		want["socket-"+strconv.Itoa(family)] = "EAFNOSUPPORT"
	}
	// The families that are open refuse this type.
	want["socket-1"], want["socket-2"], want["socket-10"], want["socket-16"] = "ok", "EPERM", "EPERM", "EPERM"
	expect(t, run(t, "guest-calls"), want)
}

// guestSetID tries every way to leave a file with the bits in a folder.
func guestSetID(args []string) error {
	dir, err := os.Open(args[0])
	if err != nil {
		return err
	}
	at := int(dir.Fd())
	if err := installGuest(); err != nil {
		return err
	}
	unix.Umask(0)
	name := func(s string) string { return args[0] + "/" + s }
	file, err := unix.Openat(at, "plain", unix.O_CREAT|unix.O_RDWR, 0o755)
	say("open-plain", err)
	for _, m := range []uint32{unix.S_ISUID, unix.S_ISGID, unix.S_ISUID | unix.S_ISGID} {
		s := strconv.FormatUint(uint64(m), 8)
		mode := m | 0o755
		path, _ := unix.BytePtrFromString(name("new-" + s))
		p := uintptr(unsafe.Pointer(path))
		plain, _ := unix.BytePtrFromString(name("plain"))
		say("fchmod-"+s, unix.Fchmod(file, mode))
		_, _, errno := unix.RawSyscall(unix.SYS_FCHMODAT, uintptr(at), uintptr(unsafe.Pointer(plain)), uintptr(mode))
		say("fchmodat-"+s, errno)
		_, _, errno = unix.RawSyscall6(unix.SYS_FCHMODAT2, uintptr(at), uintptr(unsafe.Pointer(plain)), uintptr(mode), 0, 0, 0)
		say("fchmodat2-"+s, errno)
		_, err := unix.Openat(at, "openat-"+s, unix.O_CREAT|unix.O_WRONLY, mode)
		say("openat-"+s, err)
		_, err = unix.Openat(at, ".", unix.O_TMPFILE|unix.O_WRONLY, mode)
		say("tmpfile-"+s, err)
		say("mkdirat-"+s, unix.Mkdirat(at, "mkdirat-"+s, mode))
		say("mknodat-"+s, unix.Mknodat(at, "mknodat-"+s, unix.S_IFREG|mode, 0))
		how := unix.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: uint64(mode)}
		_, err = unix.Openat2(at, "openat2-"+s, &how)
		say("openat2-"+s, err)
		for call, nr := range oldCalls() {
			a := [3]uintptr{p, uintptr(mode), 0}
			switch call {
			case "chmod":
				a[0] = uintptr(unsafe.Pointer(plain))
			case "open":
				a = [3]uintptr{p, unix.O_CREAT | unix.O_WRONLY, uintptr(mode)}
			case "mknod":
				a[1] |= unix.S_IFREG
			}
			_, _, errno := unix.RawSyscall(nr, a[0], a[1], a[2])
			say(call+"-"+s, errno)
		}
	}
	say("mknod-device", unix.Mknodat(at, "device", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	say("mknod-whiteout", unix.Mknodat(at, "whiteout", unix.S_IFCHR|0o600, 0))
	say("mknod-fifo", unix.Mknodat(at, "fifo", unix.S_IFIFO|0o600, 0))
	say("rename-whiteout", unix.Renameat2(at, "plain", at, "plain", unix.RENAME_WHITEOUT))
	say("chmod-plain", unix.Fchmod(file, 0o1700))
	_, err = unix.Openat(at, "plain", unix.O_RDONLY, 0o7777)
	say("open-random-mode", err)
	return nil
}

// setuid-plant
func TestGuestPlantsNoSetIDFile(t *testing.T) {
	dir := t.TempDir()
	out := run(t, "guest-setid", dir)
	want := map[string]string{
		"open-plain": "ok", "mknod-fifo": "ok", "chmod-plain": "ok", "open-random-mode": "ok",
		"mknod-device": "EPERM", "mknod-whiteout": "EPERM", "rename-whiteout": "EINVAL",
	}
	for _, bits := range []string{"4000", "2000", "6000"} {
		for _, call := range []string{"fchmod", "fchmodat", "fchmodat2", "openat", "tmpfile", "mkdirat", "mknodat"} {
			want[call+"-"+bits] = "EPERM"
		}
		want["openat2-"+bits] = "ENOSYS"
		for call := range oldCalls() {
			want[call+"-"+bits] = "EPERM"
		}
	}
	expect(t, out, want)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		i, err := e.Info()
		if err != nil || i.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeDevice) != 0 {
			t.Errorf("%s is %v (%v)", e.Name(), i.Mode(), err)
		}
	}
	if len(entries) != 2 {
		t.Errorf("%d entries, want plain and fifo", len(entries))
	}
}

func guestX32([]string) error {
	if err := installGuest(); err != nil {
		return err
	}
	unix.RawSyscall(1<<30|unix.SYS_GETPID, 0, 0, 0)
	return nil
}

// foreign is a program of 32-bit x86 calls: it asks for an AF_ALG socket, by
// the call of that name or by socketcall, and ends with status 7. The bytes mean
// the same to a processor in 64-bit mode.
func foreign(class elf.Class, viaSocketcall bool) []byte {
	const base = 0x400000
	size := map[elf.Class]int{elf.ELFCLASS32: 52 + 32, elf.ELFCLASS64: 64 + 56}[class]
	code := []byte{
		0xb8, 0x67, 0x01, 0, 0, // mov eax, 359 socket
		0xbb, 38, 0, 0, 0, // mov ebx, AF_ALG
		0xb9, 5, 0, 0, 0, // mov ecx, SOCK_SEQPACKET
		0x31, 0xd2, // xor edx, edx
		0xcd, 0x80, // int 0x80
		0xb8, 1, 0, 0, 0, // mov eax, 1 exit
		0xbb, 7, 0, 0, 0, // mov ebx, 7
		0xcd, 0x80,
	}
	if viaSocketcall {
		code[1], code[2] = 102, 0
		code[6] = 1 // SYS_SOCKET
		binary.LittleEndian.PutUint32(code[11:], uint32(base+size+len(code)))
		code = binary.LittleEndian.AppendUint32(code, 38)
		code = binary.LittleEndian.AppendUint32(code, 5)
		code = binary.LittleEndian.AppendUint32(code, 0)
	}
	ident := [16]byte{0x7f, 'E', 'L', 'F', byte(class), 1, 1}
	length := uint32(size + len(code))
	var b []byte
	if class == elf.ELFCLASS32 {
		b, _ = binary.Append(b, binary.LittleEndian, elf.Header32{Ident: ident, Type: 2, Machine: uint16(elf.EM_386), Version: 1,
			Entry: uint32(base + size), Phoff: 52, Ehsize: 52, Phentsize: 32, Phnum: 1})
		b, _ = binary.Append(b, binary.LittleEndian, elf.Prog32{Type: 1, Vaddr: base, Paddr: base, Filesz: length, Memsz: length, Flags: 5, Align: 4096})
	} else {
		b, _ = binary.Append(b, binary.LittleEndian, elf.Header64{Ident: ident, Type: 2, Machine: uint16(elf.EM_X86_64), Version: 1,
			Entry: uint64(base + size), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1})
		b, _ = binary.Append(b, binary.LittleEndian, elf.Prog64{Type: 1, Flags: 5, Vaddr: base, Paddr: base, Filesz: uint64(length), Memsz: uint64(length), Align: 4096})
	}
	return append(b, code...)
}

func killedBySIGSYS(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	st := exit.Sys().(syscall.WaitStatus)
	return st.Signaled() && st.Signal() == syscall.SIGSYS
}

func TestForeignInterfaceEndsTheGuest(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("int 0x80 and x32 are of x86-64, this is", runtime.GOARCH)
	}
	for name, program := range map[string][]byte{
		"i386": foreign(elf.ELFCLASS32, false), "i386-socketcall": foreign(elf.ELFCLASS32, true),
		"int80": foreign(elf.ELFCLASS64, false), "int80-socketcall": foreign(elf.ELFCLASS64, true),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, program, 0o755); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := exec.Command(path).Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
				t.Skip("this kernel has no 32-bit interface:", err)
			}
			if err := child(t, "guest-exec", path).Run(); !killedBySIGSYS(err) {
				t.Errorf("not killed: %v", err)
			}
		})
	}
	t.Run("x32", func(t *testing.T) {
		if err := child(t, "guest-x32").Run(); !killedBySIGSYS(err) {
			t.Errorf("not killed: %v", err)
		}
	})
}

// guestExec becomes a program under the filter.
func guestExec(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	env := os.Environ()
	for i, e := range env {
		if strings.HasPrefix(e, childVariable+"=") {
			env[i] = childVariable + "="
		}
	}
	if err := installGuest(); err != nil {
		return err
	}
	return syscall.Exec(path, args, env)
}

func TestProgramsRunUnderTheGuestFilter(t *testing.T) {
	for name, argv := range map[string][]string{
		"bash":     {"bash", "-c", `set -e; d=$(mktemp -d); cd $d; (echo b; echo a) | sort > x; cp x y; mv y z; ln -s z l; chmod 700 z; test "$(cat l | tr -d '\n')" = ab; sleep 0.01 & wait; ls -la > /dev/null; find . -name z | xargs rm; touch f; stat f > /dev/null; tar cf t.tar x; gzip t.tar; cd /; rm -r $d; echo fine`},
		"python":   {"python3", "-c", pythonProgram},
		"node":     {"node", "-e", nodeProgram},
		"git":      {"bash", "-c", `set -e; d=$(mktemp -d); cd $d; git init -q .; echo 1 > a; git add a; git -c user.name=a -c user.email=a@b commit -qm a; git gc -q; git log --oneline > /dev/null; rm -rf $d; echo fine`},
		"gcc":      {"bash", "-c", `set -e; d=$(mktemp -d); cd $d; echo 'int puts(const char*); int main(void){puts("fine");}' > a.c; gcc -pthread -o a a.c; ./a; rm -r $d`},
		"java":     {"bash", "-c", `set -e; java -Xshare:auto -version 2>/dev/null; echo fine`},
		"go":       {"bash", "-c", `set -e; go version > /dev/null; go env GOROOT > /dev/null; echo fine`},
		"strings":  {"bash", "-c", `set -e; awk 'BEGIN{print "fine"}'`},
		"sed-i":    {"bash", "-c", `set -e; f=$(mktemp); echo bad > $f; sed -i s/bad/fine/ $f; cat $f; rm $f`},
		"perl":     {"perl", "-e", `my $p = open(my $h, "-|", "echo fine"); print <$h>;`},
		"timeout":  {"timeout", "5", "echo", "fine"},
		"clone-ok": {"bash", "-c", `for i in 1 2 3 4 5; do (true) & done; wait; echo fine`},
	} {
		t.Run(name, func(t *testing.T) {
			program := argv[0]
			if _, err := exec.LookPath(name); err == nil && program == "bash" {
				program = name
			} else if name == "git" || name == "gcc" || name == "java" || name == "go" {
				t.Skip("not on this machine:", err)
			}
			if _, err := exec.LookPath(program); err != nil {
				t.Skip("not on this machine:", err)
			}
			if out := run(t, "guest-exec", argv...); strings.TrimSpace(out) != "fine" {
				t.Errorf("it printed %q", out)
			}
		})
	}
}

const pythonProgram = `
import asyncio, ctypes, multiprocessing, os, socket, subprocess, tempfile, threading, time
assert ctypes.CDLL(None).getpid() == os.getpid()
assert subprocess.run(["echo", "x"], capture_output=True, check=True).stdout == b"x\n"
q = multiprocessing.get_context("fork").Queue()
p = multiprocessing.get_context("fork").Process(target=q.put, args=(1,)); p.start()
assert q.get() == 1; p.join()
async def main():
    p = await asyncio.create_subprocess_exec("true")
    await asyncio.sleep(0.01)
    return await p.wait()
assert asyncio.run(main()) == 0
t = threading.Thread(target=time.sleep, args=(0.01,)); t.start(); t.join()
with tempfile.TemporaryDirectory() as d:
    open(d + "/a", "w").write("a"); os.chmod(d + "/a", 0o600); os.rename(d + "/a", d + "/b"); os.listdir(d)
try:
    os.chmod("/nonexistent", 0o4755)
    raise SystemExit("setuid")
except PermissionError:
    pass
for family in (40, 38, 17):
    try:
        socket.socket(family, socket.SOCK_DGRAM if family == 40 else socket.SOCK_SEQPACKET)
        raise SystemExit("family")
    except OSError:
        pass
os.urandom(8); socket.socketpair(); os.memfd_create("x")
print("fine")
`

const nodeProgram = `
const os = require("os"), cp = require("child_process"), fs = require("fs"), { Worker } = require("worker_threads");
os.networkInterfaces(); os.cpus(); os.userInfo();
if (cp.execFileSync("echo", ["x"]).toString() !== "x\n") throw 1;
const d = fs.mkdtempSync(os.tmpdir() + "/n"); fs.writeFileSync(d + "/a", "a"); fs.cpSync(d + "/a", d + "/b"); fs.rmSync(d, {recursive: true});
require("zlib").gzipSync("x"); require("crypto").randomBytes(8);
new WebAssembly.Module(new Uint8Array([0,97,115,109,1,0,0,0]));
const w = new Worker("1", {eval: true});
w.on("exit", () => { const s = require("net").createServer().listen(0, "127.0.0.1", () => { s.close(); console.log("fine"); }); });
`
