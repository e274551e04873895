package attack

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// asm/unistd_64.h
const uretprobe, uprobe = 335, 336

// harmful says whether a system call does something whatever its arguments
// are: it ends, forks or stops its caller, or writes out the host's disks. Of
// uretprobe and uprobe the kernel asks no filter (Linux 6.14), and they end
// whoever calls them elsewhere than from its own trampolines.
func harmful(nr int) bool {
	switch nr {
	case unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_PAUSE, unix.SYS_RT_SIGRETURN, unix.SYS_SYNC, uretprobe, uprobe:
		return true
	}
	return false
}

// foreign asks for a socket of AF_ALG by the interfaces of i386, socket and
// socketcall, and by that of x32, of which a filter may not think.
func foreign([]string) (string, error) {
	var held []string
	for _, how := range []string{"socket", "socketcall", "x32"} {
		o, err := child(0, []string{"foreigncall", how})
		if err != nil {
			held = append(held, how+": "+err.Error())
		} else if o.Through {
			return how + ": " + o.Got, nil
		} else {
			held = append(held, how+": "+o.Got)
		}
	}
	return "", fmt.Errorf("%v", held)
}

// foreignCall is foreign's child, which may be ended by what it does.
func foreignCall(a []string) (string, error) {
	const alg, seqpacket = unix.AF_ALG, unix.SOCK_SEQPACKET
	if a[0] == "x32" {
		fd, _, errno := unix.RawSyscall(0x4000_0000+unix.SYS_SOCKET, alg, seqpacket, 0)
		if errno != 0 {
			return "", errno
		}
		return fmt.Sprintf("descriptor %d", fd), nil
	}
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_32BIT)
	if err != nil {
		return "", err
	}
	defer unix.Munmap(page)
	const at, result = 2048, 3072 // of the arguments of socketcall, and of what came of it
	nr, ebx, ecx := uint32(359), uint32(alg), uint32(seqpacket)
	if a[0] == "socketcall" {
		nr, ebx, ecx = 102, 1, uint32(ptr(page))+at
		binary.LittleEndian.PutUint32(page[at:], alg)
		binary.LittleEndian.PutUint32(page[at+4:], seqpacket)
	}
	code := []byte{0x53, 0xb8} // push rbx; mov eax
	code = binary.LittleEndian.AppendUint32(code, nr)
	code = binary.LittleEndian.AppendUint32(append(code, 0xbb), ebx)
	code = binary.LittleEndian.AppendUint32(append(code, 0xb9), ecx)
	code = binary.LittleEndian.AppendUint32(append(code, 0xba), 0)
	code = append(code, 0xcd, 0x80, 0x5b, 0x89, 0x05) // int 0x80; pop rbx; mov [rip+…], eax
	code = binary.LittleEndian.AppendUint32(code, uint32(result-len(code)-4))
	copy(page, append(code, 0xc3))
	enter(page)
	got := int32(binary.LittleEndian.Uint32(page[result:]))
	if got < 0 {
		return "", unix.Errno(-got)
	}
	return fmt.Sprintf("descriptor %d", got), nil
}

// exitCode is machine code that ends a process with tinyStatus, and the number
// of this machine. elf.h
func exitCode() (uint16, []byte) {
	return 62, []byte{0xbf, tinyStatus, 0, 0, 0, 0xb8, unix.SYS_EXIT, 0, 0, 0, 0x0f, 0x05} // mov edi; mov eax; syscall
}
