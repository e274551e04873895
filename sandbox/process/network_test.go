package process

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/testenv"
)

// What prepares a package has the host's network to connect, and nothing else
// of it: no abstract socket, no hypervisor's, no listener, no raw packet. The
// record does not claim a network namespace.
func TestHostNetwork(t *testing.T) { hostNetwork(t) }

func TestHostNetworkAsUser(t *testing.T) {
	subject(t)
	testenv.AsUser(t, hostNetwork)
}

func hostNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	name := "casemate-test-" + strconv.Itoa(os.Getpid())
	abstract, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	s := subject(t)
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}, Security: casemate.Profile{Scope: casemate.ScopeSession, Network: casemate.NetworkLoopback,
		Filesystem: []casemate.Mount{{Path: filepath.Dir(s.Attacker), At: "/attacker", Access: casemate.Read, Execute: true}}}}
	g, err := Compile(tool, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{Guests: []plan.Guest{g}}
	if os.Geteuid() != 0 {
		p.Host.AllowDegraded = []string{"memory", "cpu"}
	}
	got := func() (string, []string) {
		sb, err := open(t, testenv.Binaries(t).Init, p).Start(t.Context(), casemate.Spec{Tool: tool})
		if err != nil {
			t.Fatal(err)
		}
		defer sb.Close()
		a := "/attacker/attacker "
		run(sb, a+"connect tcp "+l.Addr().String()+";"+a+"abstract "+name+";"+a+"socket 40 1 0;"+a+"socket 1 1 0;"+a+"socket 2 3 1;"+a+"listen 127.0.0.1:0;"+a+"linkadd; cat /etc/resolv.conf")
		return finished(t, sb), sb.Enforced().Namespaces
	}
	through := func(out string) string {
		var s []string
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, `{"tried"`) {
				s = append(s, strconv.FormatBool(strings.Contains(line, `"through":true`)))
			}
		}
		return strings.Join(s, " ")
	}
	out, spaces := got()
	if through(out) != "false false false true false true false" || !slices.Contains(spaces, "network") {
		t.Errorf("without the host's network: %v\n%s", spaces, out)
	}
	p.Guests[0].HostNetwork = true
	out, spaces = got()
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	if through(out) != "true false false false false false false" || slices.Contains(spaces, "network") || len(spaces) < 6 || !strings.HasSuffix(out, string(resolv)) {
		t.Errorf("with the host's network: %v\n%s", spaces, out)
	}
	abstract.(*net.UnixListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := abstract.Accept(); err == nil {
		c.Close()
		t.Error("the host's abstract socket was reached")
	}
}
