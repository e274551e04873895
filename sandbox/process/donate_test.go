package process

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/testenv"
)

// An input is there as it was given, for every program of the guest, and nothing
// in the sandbox can change it, add to it or run it.
func TestDonate(t *testing.T) { donate(t) }

func TestDonateAsUser(t *testing.T) {
	subject(t)
	testenv.AsUser(t, donate)
}

func donate(t *testing.T) {
	const probe = `cat /in/a.txt; md5sum < /in/big | head -c 32
for c in 'echo x >/in/a.txt' 'echo x >/in/new' 'rm /in/a.txt' 'chmod 777 /in/a.txt' 'chmod 777 /in' 'mv /in/a.txt /in/b' 'touch -d 2000-01-01 /in/a.txt' 'ln /in/a.txt /tmp/l' 'truncate -s 1 /in/a.txt' '/in/script'; do
(eval "$c") >/dev/null 2>&1 && echo "did $c"
done
ls /in | tr '\n' ' '; cat /in/a.txt`
	big := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	for name, tool := range map[string]*casemate.Tool{
		"shell":   {Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}},
		"python":  {Name: "python", Run: casemate.Run{Python: &casemate.Script{Interpreter: "/usr/bin/python3"}}},
		"no fork": {Name: "python", Run: casemate.Run{Python: &casemate.Script{Interpreter: "/usr/bin/python3", NoFork: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			sb := parkedWith(t, tool, casemate.Grant{Inputs: true})
			give(t, sb, "a.txt", "alpha\n")
			give(t, sb, "big", big)
			give(t, sb, "script", "#!/bin/sh\necho ran\n")
			for _, bad := range []string{"", ".", "..", "a/b", "/etc/x", "a\x00b", "a.txt", strings.Repeat("n", 256)} {
				if w, err := sb.(casemate.Donor).Donate(t.Context(), bad); casemate.KindOf(err) != casemate.Invalid {
					t.Errorf("%q: %v %v", bad, w, err)
				}
			}
			key, line := "command", probe
			if name != "shell" {
				key, line = "code", "import subprocess; print(subprocess.run(['sh', '-c', "+strconv.Quote(probe)+"], stdout=-1, text=True).stdout)"
			}
			must(t, guest.Write(sb.Guest(), guest.Frame{Type: guest.Call, Call: 1, Body: guest.AppendPairs(nil, []guest.Pair{{Key: key, Value: line}})}))
			out := strings.TrimSpace(finished(t, sb))
			want := "alpha\n" + fmt.Sprintf("%x", md5.Sum([]byte(big))) + "a.txt big script alpha"
			if out != want {
				t.Errorf("%q, not %q", out, want)
			}
		})
	}
}

// What does not fit on the sandbox's disk is refused, and one that was not made
// for inputs has no place for them.
func TestDonateBounds(t *testing.T) {
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: casemate.Profile{Disk: 1 << 20}}
	sb := parkedWith(t, tool, casemate.Grant{Inputs: true})
	w, err := sb.(casemate.Donor).Donate(t.Context(), "big")
	must(t, err)
	if _, err := w.Write(make([]byte, 2<<20)); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	w.Close()
	sb = parkedWith(t, tool, casemate.Grant{})
	if _, err := sb.(casemate.Donor).Donate(t.Context(), "a"); casemate.KindOf(err) != casemate.Unsupported {
		t.Error(err)
	}
	if err := sb.(casemate.Narrower).Narrow(t.Context(), casemate.Grant{Inputs: true}); casemate.KindOf(err) != casemate.Unsupported {
		t.Error(err)
	}
	tool.Security.Filesystem = []casemate.Mount{{Path: t.TempDir(), At: "/in", Access: casemate.Read}}
	if _, err := subject(t).Open(t, tool).Start(t.Context(), casemate.Spec{Tool: tool, Grant: casemate.Grant{Inputs: true}}); casemate.KindOf(err) != casemate.Invalid {
		t.Error(err)
	}
	parkedWith(t, tool, casemate.Grant{}).Close()
}

// A memory file cannot be mounted, which is why inputs are written to a file of
// the sandbox's own: the kernel clones no mount of its internal ones.
func TestMemoryFilesAreNotMounted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("open_tree wants CAP_SYS_ADMIN")
	}
	fd, err := unix.MemfdCreate("input", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	must(t, err)
	defer unix.Close(fd)
	if tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH); err != unix.EINVAL {
		t.Errorf("%d %v: then inputs need not be copied", tree, err)
	}
}

func give(t *testing.T, sb casemate.Sandbox, name, text string) {
	t.Helper()
	w, err := sb.(casemate.Donor).Donate(context.Background(), name)
	must(t, err)
	_, err = io.WriteString(w, text)
	must(t, errors.Join(err, w.Close()))
}
