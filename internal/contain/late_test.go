package contain

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/plan"
)

// shapes say what the arguments of each system call of a Program are, for people:
// d a number, x flags, o a mode, s a text, w as many bytes as the next argument
// says, 8 to 56 so many bytes, and ? bytes that differ from kernel to kernel.
var shapes = map[int64][]string{
	unix.SYS_CAPSET:                  {"capset", "8", "24"},
	unix.SYS_CHDIR:                   {"chdir", "s"},
	unix.SYS_CLOSE:                   {"close", "d"},
	unix.SYS_CLOSE_RANGE:             {"close_range", "d", "d", "x"},
	unix.SYS_DUP3:                    {"dup3", "d", "d", "x"},
	unix.SYS_FCHMODAT:                {"fchmodat", "d", "s", "o"},
	unix.SYS_FSCONFIG:                {"fsconfig", "d", "d", "s", "s", "d"},
	unix.SYS_FSMOUNT:                 {"fsmount", "d", "x", "x"},
	unix.SYS_FSOPEN:                  {"fsopen", "s", "x"},
	unix.SYS_IOCTL:                   {"ioctl", "d", "x", "40"},
	unix.SYS_KEYCTL:                  {"keyctl", "d", "d"},
	unix.SYS_LANDLOCK_ADD_RULE:       {"landlock_add_rule", "d", "d", "?", "x"},
	unix.SYS_LANDLOCK_CREATE_RULESET: {"landlock_create_ruleset", "?", "d", "x"},
	unix.SYS_LANDLOCK_RESTRICT_SELF:  {"landlock_restrict_self", "d", "x"},
	unix.SYS_MKDIRAT:                 {"mkdirat", "d", "s", "o"},
	unix.SYS_MOUNT:                   {"mount", "s", "s", "d", "x", "d"},
	unix.SYS_MOUNT_SETATTR:           {"mount_setattr", "d", "s", "x", "32", "d"},
	unix.SYS_MOVE_MOUNT:              {"move_mount", "d", "s", "d", "s", "x"},
	unix.SYS_OPENAT:                  {"openat", "d", "s", "x", "o"},
	unix.SYS_OPENAT2:                 {"openat2", "d", "s", "24", "d"},
	unix.SYS_OPEN_TREE:               {"open_tree", "d", "s", "x"},
	unix.SYS_PRCTL:                   {"prctl", "d", "d", "d", "d"},
	unix.SYS_PRLIMIT64:               {"prlimit64", "d", "d", "16", "d"},
	unix.SYS_SECCOMP:                 {"seccomp", "d", "x", "16"},
	unix.SYS_SENDMSG:                 {"sendmsg", "d", "56", "x"},
	unix.SYS_SETRESGID:               {"setresgid", "d", "d", "d"},
	unix.SYS_SETRESUID:               {"setresuid", "d", "d", "d"},
	unix.SYS_SETSID:                  {"setsid"},
	unix.SYS_SOCKET:                  {"socket", "d", "x", "d"},
	unix.SYS_UMOUNT2:                 {"umount2", "s", "x"},
	unix.SYS_UNSHARE:                 {"unshare", "x"},
	unix.SYS_WRITE:                   {"write", "d", "w", "d"},
}

const packetAt = 0x100000000

// calls are those of a packet as a person reads them.
func calls(t *testing.T, packet []byte) (lines []string) {
	t.Helper()
	word := func(at int) int64 { return int64(binary.LittleEndian.Uint64(packet[at:])) }
	for i := range int(word(24)) {
		at := int(word(16)) + 64*i
		shape, ok := shapes[word(at)]
		if !ok {
			t.Fatalf("call %d has the number %d", i, word(at))
		}
		var args []string
		for j, kind := range shape[1:] {
			v, n := word(at+8+8*j), 0
			switch kind {
			case "d":
				args = append(args, fmt.Sprint(v))
				continue
			case "x":
				args = append(args, fmt.Sprintf("%#x", uint64(v)))
				continue
			case "o":
				args = append(args, fmt.Sprintf("%#o", v))
				continue
			case "w":
				n = int(word(at + 16 + 8*j))
			case "?", "s":
			default:
				fmt.Sscan(kind, &n)
			}
			if v == 0 {
				args = append(args, "null")
				continue
			}
			from := int(v - packetAt)
			if from < LateHeader || from >= int(word(16)) {
				t.Fatalf("call %d points to %#x", i, v)
			}
			switch kind {
			case "s":
				n = slices.Index(packet[from:], 0)
				fallthrough
			case "w":
				args = append(args, fmt.Sprintf("%q", packet[from:from+n]))
			case "?":
				args = append(args, "…")
			default:
				args = append(args, hex.EncodeToString(packet[from:from+n]))
			}
		}
		for j := len(shape) - 1; j < 6; j++ {
			if v := word(at + 8 + 8*j); v != 0 {
				t.Errorf("call %d has %d as argument %d, which nobody sees", i, v, j)
			}
		}
		want := fmt.Sprint(word(at + 56))
		if word(at+56) == whatever {
			want = "whatever"
		}
		lines = append(lines, fmt.Sprintf("%s(%s) = %s", shape[0], strings.Join(args, ", "), want))
	}
	return lines
}

// What the children of three guests do to themselves, call by call, for whoever
// reviews it.
func TestProgram(t *testing.T) {
	guest := plan.Guest{Runner: "python", Interpreter: "/usr/bin/python3", Fork: true, Cwd: "/tmp", Disk: 1 << 20, Processes: 8, Memory: 1 << 20, Output: 1 << 20}
	granted := guest
	granted.Mounts = []plan.Mount{{Source: "/h/docs", At: "/docs"}, {Source: "/h/work", At: "/work", Write: true}, {Source: "/h/note", At: "/tmp/note"}}
	late := Late{Base: packetAt, Own: true, Cgroups: 2, Detached: true, Caps: 3, Filter: strings.Repeat("filter.", 2) + "..", Rlimits: []Rlimit{{Resource: unix.RLIMIT_CORE}, {Resource: unix.RLIMIT_NOFILE, Soft: 1024, Hard: 4096}},
		Modes: []uint32{unix.S_IFDIR | 0o755, unix.S_IFDIR | 0o700, unix.S_IFREG | 0o644}, Lower: []int{0, 1, 2}}
	user := late
	user.Own, user.Detached = false, false
	for name, c := range map[string]struct {
		late  Late
		guest plan.Guest
	}{"late-nothing": {late, guest}, "late-grants": {late, granted}, "late-grants-of-a-user": {user, granted}} {
		t.Run(name, func(t *testing.T) {
			p := c.late.Program(c.guest, facts, nil)
			packet := p.Packet(nil, 7, 100_003, 5)
			for at, want := range map[int]uint64{0: LateFork, 8: 7, 32: 5, 40: 1 << 20} {
				if got := binary.LittleEndian.Uint64(packet[at:]); got != want {
					t.Errorf("word %d of its head is %d", at/8, got)
				}
			}
			text := strings.Join(calls(t, packet), "\n") + "\n"
			file := "testdata/" + name + ".golden"
			if *update {
				os.WriteFile(file, []byte(text), 0o644)
			}
			if want, err := os.ReadFile(file); err != nil || string(want) != text {
				t.Errorf("the calls are not %s (go test -update writes it): %v\n%s", file, err, text)
			}
		})
	}
}
