package process

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/testenv"
)

// once starts a sandbox of tool, has it answer, and closes it.
func once(t *testing.T, p *site, tool *casemate.Tool) {
	t.Helper()
	s := parkPython(t, p, tool)
	if c := python(t, s, "print(6*7)"); c.stdout != "42\n" {
		t.Fatal(c)
	}
}

// endTemplate kills the template of s and waits until it is gone.
func endTemplate(t *testing.T, template int) {
	t.Helper()
	l := lifeOf(template)
	unix.Kill(template, unix.SIGKILL)
	for end := time.Now().Add(10 * time.Second); !l.over(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the template does not end")
		}
	}
}

func TestTemplateKilled(t *testing.T) { templateKilled(t) }

func TestTemplateKilledAsUser(t *testing.T) {
	testenv.Binaries(t)
	testenv.AsUser(t, templateKilled)
}

// A template that is killed takes its children with it, parked and busy ones,
// and nothing else: the next start has another, and nothing is left.
func templateKilled(t *testing.T) {
	forked, alone := pythonTools(t)
	p := siteOf(t, Options{}, forked, alone)
	other := parkPython(t, p, alone)
	other.Close()
	fault := func(victim func(template int) int) {
		t.Helper()
		parked, busy := parkPython(t, p, forked), parkPython(t, p, forked)
		template := parent(t, busy.Pid())
		askPython(t, busy, "import time\nprint('on', flush=True)\ntime.sleep(60)")
		if f, err := guest.Read(busy.Guest(), guest.MaxReply); err != nil || string(f.Body) != "on\n" {
			t.Fatal(f, err)
		}
		if err := unix.Kill(victim(template), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if c := collect(busy.Guest()); !strings.Contains(c.failure, "signal 9") && c.err == nil || strings.Contains(c.order, "V") {
			t.Errorf("the call in flight: %v", c)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for _, s := range []*sandbox{parked, busy} {
			if e, err := s.Wait(ctx); err != nil || e.Signal != int(syscall.SIGKILL) {
				t.Errorf("%+v %v", e, err)
			}
			l := lifeOf(s.Pid())
			if err := s.Close(); err != nil || !l.over() {
				t.Errorf("a child of a killed template: %v, %v", err, l)
			}
		}
		next := parkPython(t, p, forked)
		if again := parent(t, next.Pid()); again == template {
			t.Error("the next start has the template that was killed")
		}
		if c := python(t, next, "print(1)"); c.stdout != "1\n" {
			t.Error(c)
		}
		last := parkPython(t, p, forked)
		template = parent(t, last.Pid())
		last.Close()
		endTemplate(t, template)
	}
	self := func(template int) int { return template }
	fault(self)
	before := p.still(t)
	fault(self)
	p.settled(t, before)
	fault(func(template int) int { return parent(t, template) })
	p.settled(t, before)
}

// A template that does not answer holds a start up until its context is done,
// and nobody for longer than the bound of a start.
func TestTemplateStopped(t *testing.T) {
	one, _ := pythonTools(t)
	two, _ := pythonTools(t)
	two.Run.Python.Preload = []string{"json", "base64"}
	p := siteOf(t, Options{}, one, two)
	stopped := func(tool *casemate.Tool) (child *sandbox, template int) {
		t.Helper()
		child = parkPython(t, p, tool)
		template = parent(t, child.Pid())
		if err := unix.Kill(template, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		return child, template
	}
	end := func(tool *casemate.Tool) {
		t.Helper()
		child := parkPython(t, p, tool)
		template := parent(t, child.Pid())
		child.Close()
		endTemplate(t, template)
	}
	end(one)
	end(two)
	before := p.still(t)

	child, template := stopped(one)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Start(ctx, casemate.Spec{Tool: one}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	unix.Kill(template, unix.SIGCONT)
	once(t, p, one)
	// What was given up is not left: only the one child and its template are.
	for end := time.Now().Add(20 * time.Second); len(descendants(p.s.proc.Pid))-len(blanks(p.s)) != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(descendants(p.s.proc.Pid))
		}
	}
	child.Close()

	_, first := stopped(one)
	child, second := stopped(two)
	over := make(chan error, 2)
	go func() {
		_, err := p.Start(t.Context(), casemate.Spec{Tool: one})
		over <- err
	}()
	go func() {
		if err := child.Close(); err != nil {
			t.Error(err)
		}
		over <- nil
	}()
	for range 2 {
		select {
		case err := <-over:
			if err != nil {
				typed(t, err, casemate.Internal)
			}
		case <-time.After(60 * time.Second):
			t.Fatal("the bound of a start has passed")
		}
	}
	for tool, template := range map[*casemate.Tool]int{one: first, two: second} {
		if parent(t, parkPython(t, p, tool).Pid()) == template {
			t.Error("the template that did not answer is used still")
		}
		end(tool)
	}
	p.settled(t, before)
}
