package sandboxtest

import (
	"crypto/md5"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// The optional powers of a sandbox.
var powers = map[string]func(*testing.T, Subject){
	"inputs": func(t *testing.T, s Subject) {
		tool := shell(casemate.Profile{})
		sb, err := s.Open(t, tool).Start(t.Context(), casemate.Spec{Tool: tool, Grant: casemate.Grant{Inputs: true}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sb.Close() })
		if f, err := guest.Read(sb.Guest(), guest.MaxReply); err != nil || f.Type != guest.Ready {
			t.Fatal(f.Type, err)
		}
		big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
		for name, text := range map[string]string{"a": "alpha\n", "grüße": big} {
			w, err := sb.(casemate.Donor).Donate(t.Context(), name)
			if err == nil {
				_, err = w.Write([]byte(text))
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		d := call(t, sb, 1, command("cat /in/a; md5sum < /in/grüße | head -c 32; (echo x > /in/a) 2>/dev/null; (echo x > /in/new) 2>/dev/null; rm -f /in/a 2>/dev/null; echo; ls /in; cat /in/a"))
		if want := fmt.Sprintf("alpha\n%x\na\ngrüße\nalpha\n", md5.Sum([]byte(big))); d.Stdout != want {
			t.Errorf("%+v", d)
		}
	},
	"narrowed when late": func(t *testing.T, s Subject) {
		tool := shell(casemate.Profile{Memory: 256 << 20, Processes: 40})
		sb := s.start(t, tool)
		n, ok := sb.(casemate.Narrower)
		if !ok {
			t.Fatalf("%T does not narrow", sb)
		}
		if err := n.Narrow(t.Context(), casemate.Grant{Processes: 41}); casemate.KindOf(err) != casemate.Denied {
			t.Errorf("a wider grant: %v", err)
		}
		if sb = s.start(t, tool); sb.(casemate.Narrower).Narrow(t.Context(), casemate.Grant{Processes: 8}) != nil || sb.Enforced().Processes.Limit != 8 {
			t.Errorf("%+v", sb.Enforced())
		}
		d := call(t, sb, 1, command("(for i in $(seq 60); do sleep 5 & done) 2>/dev/null; set -- /proc/[0-9]*; echo $#"))
		var count int
		if _, err := fmt.Sscan(d.Stdout, &count); err != nil || count < 3 || count > 12 {
			t.Errorf("%+v", d)
		}
	},
	// A parked guest that runs, as an MCP server does, does nothing while it stands
	// still, and goes on as if it had not.
	"stands still": func(t *testing.T, s Subject) {
		p := &peer{t: t, sb: s.start(t, shell(session(casemate.Profile{})))}
		f, ok := p.sb.(casemate.Freezer)
		if !ok {
			t.Fatalf("%T does not freeze", p.sb)
		}
		p.open(0, command("while read a; do echo got $a; done"))
		p.stdin("one\n")
		p.until(guest.Stdout, "got one\n")
		for range 2 { // it may be asked again
			if err := f.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		p.stdin("two\n")
		said := make(chan string, 1)
		go func() { said <- p.until(guest.Stdout, "got two\n") }()
		select {
		case got := <-said:
			t.Fatalf("frozen, it said %q", got)
		case <-time.After(50 * time.Millisecond):
		}
		if err := f.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-said
		if err := f.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.sb.Close(); err != nil {
			t.Errorf("it does not end frozen: %v", err)
		}
	},
	"what is killed inside is an end": func(t *testing.T, s Subject) {
		// The guest's own first process is out of its reach; all others are not.
		d := s.sh(t, casemate.Profile{}, "kill -9 $$")
		if d.Status != 137 || !d.Answered {
			t.Errorf("%+v", d)
		}
		d = s.sh(t, casemate.Profile{}, "kill -9 -1; echo on")
		if strings.Contains(d.Failure, "internal") {
			t.Errorf("%+v", d)
		}
	},
	"memory is counted": func(t *testing.T, s Subject) {
		sb := s.start(t, s.program(casemate.Profile{}, "grow", "32"))
		call(t, sb, 1)
		sb.Close()
		x, err := sb.Wait(t.Context())
		if err != nil || os.Geteuid() == 0 && x.Usage.Memory < 32<<20 {
			t.Errorf("%+v %v", x, err)
		}
	},
}
