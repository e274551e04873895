package main

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/guest"
	"github.com/casemate/casemate/internal/linux"
	"github.com/casemate/casemate/internal/spawn"
	"github.com/casemate/casemate/runners"
)

// inside is the first process of a sandbox. It waits for its setup, confines
// itself, reports, and then is the runner or starts it. It ends, and with it
// everything in the sandbox, when the spawner's end of the connection does.
//
// In a container that a runtime made it is much the same (inner): another of it,
// outside, began as the first process of the sandbox.
func inside(inner bool) int {
	// It was started as /proc/self/exe. Its name says whether it has a guest.
	name, err := os.OpenFile("/proc/self/comm", os.O_WRONLY, 0)
	if err == nil {
		name.WriteString("casemate-blank")
	}
	setup := os.NewFile(contain.SetupFD, "setup")
	unix.CloseOnExec(contain.SetupFD)
	unix.CloseOnExec(contain.GuestFD)
	if !inner { // there it is the child of a runtime, which ends at once, and dies with the sandbox
		unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	}
	unix.Umask(0o022)
	// This thread confines, and starts every program of the guest.
	runtime.LockOSThread()
	// In a container it has no capability, and so cannot say that it has none.
	if !inner && linux.DropBoundingHere() != nil {
		return 1
	}
	in := &contain.Inside{Runner: program}
	report, uppers, std, err := confine(in)
	if err != nil {
		return 1
	}
	if inner {
		std = started(in.Guest)
	}
	s := in.Setup
	var held *container
	if s.Inner != "" && report.Step == "" {
		spaces := report.Spaces
		held, report, err = start(s, std)
		if contain.Sentry(s.Guest) { // those in there are the Sentry's, and it stands in these
			report.Spaces = spaces
		}
		if err != nil {
			report = contain.Report{Step: string(contain.Runtime), What: err.Error()}
		}
	}
	if report.Step == "" {
		name.WriteString("casemate-init")
		name.Close()
		// What a guest makes this process say, by a signal, is not for the
		// operator's terminal.
		if unix.Dup3(0, 2, 0) != nil {
			return 1
		}
		os.Clearenv()
		for _, kv := range s.Guest.Env {
			k, v, _ := strings.Cut(kv, "=")
			os.Setenv(k, v)
		}
		os.Chdir(s.Guest.Cwd)
	}
	var oob []byte
	if len(uppers) > 0 {
		oob = unix.UnixRights(uppers...)
	}
	if unix.Sendmsg(contain.SetupFD, report.Encode(), oob, nil, unix.MSG_NOSIGNAL) != nil || report.Step != "" {
		return 1
	}
	for _, fd := range uppers {
		unix.Close(fd)
	}
	if held != nil {
		return held.wait(setup)
	}
	pipe := os.NewFile(contain.GuestFD, "guest")
	var stopped sync.Mutex
	go func() {
		obey(setup, &stopped)
		os.Exit(0)
	}()
	return run(s, pipe, std, &stopped)
}

// confine reads the setup and carries it out: in two parts, where the first
// comes before the guest is known.
// std are the standard descriptors of an MCP server.
func confine(in *contain.Inside) (report contain.Report, uppers, std []int, err error) {
	buf, oob := make([]byte, 256<<10), make([]byte, unix.CmsgSpace(4*contain.MaxGrants))
	for {
		n, oobn, _, _, err := unix.Recvmsg(contain.SetupFD, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return report, nil, nil, io.EOF
		}
		if in.Setup, err = contain.DecodeSetup(buf[:n]); err != nil {
			return report, nil, nil, err
		}
		in.Passed = spawn.Rights(oob[:oobn])
		if n := len(in.Guest.Mounts); len(in.Passed) > n {
			in.Passed, std = in.Passed[:n], in.Passed[n:]
		}
		if c := len(contain.Carried(in.Guest)); in.Detached && c > 0 && len(std) >= c {
			std, in.Carried = std[:len(std)-c], std[len(std)-c:]
		}
		if report, uppers = in.Run(); !in.More || report.Step != "" {
			return report, uppers, std, nil
		}
	}
}

func program(name string) []byte {
	switch name {
	case "node":
		return runners.Node()
	case "template":
		return runners.Template()
	case "late":
		return contain.LateCode()
	}
	return runners.Python()
}

// obey carries out what the spawner says until it is gone. While the guest is
// stopped it holds the lock, without which the runner changes nothing.
func obey(setup *os.File, stopped *sync.Mutex) {
	buf := make([]byte, 16)
	held := false
	for {
		n, err := setup.Read(buf)
		if err != nil || n == 0 {
			return
		}
		switch string(buf[:n]) {
		case contain.Stop:
			if !held {
				stopped.Lock()
				held = true
			}
			if !stopAll() {
				return
			}
			if _, err := setup.Write([]byte(contain.Stopped)); err != nil {
				return
			}
		case contain.Go:
			unix.Kill(-1, unix.SIGCONT)
			if held {
				stopped.Unlock()
				held = false
			}
		}
	}
}

// stopAll stops every other process of the sandbox and returns when none
// runs: kill(-1) reaches all of them at once, and a process that is being
// forked sees the signal first.
func stopAll() bool {
	for range 200 {
		if err := unix.Kill(-1, unix.SIGSTOP); err == unix.ESRCH {
			return true
		}
		if allStopped() {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// allStopped says whether every other process stands still. The parent of a
// vfork waits in the kernel (D) for its child, which is stopped and so does not
// let it go; it stops before it runs again.
func allStopped() bool {
	pids, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	waiting, parents := map[string]bool{}, map[string]bool{}
	for _, p := range pids {
		name := p.Name()
		if name[0] < '1' || name[0] > '9' || name == "1" {
			continue
		}
		tasks, err := os.ReadDir("/proc/" + name + "/task")
		if err != nil && !ended(err) {
			return false
		}
		for _, t := range tasks {
			b, err := os.ReadFile("/proc/" + name + "/task/" + t.Name() + "/stat")
			if err != nil && !ended(err) {
				return false
			}
			switch st, parent := state(string(b)); {
			case err != nil, st == 'Z', st == 'X':
			case st == 'T', st == 't':
				parents[parent] = true
			case st == 'D':
				waiting[name] = true
			default:
				return false
			}
		}
	}
	for name := range waiting {
		if !parents[name] {
			return false
		}
	}
	return true
}

// ended says whether a file of /proc could not be read because its process is
// gone.
func ended(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) }

// state is the third field of /proc/PID/stat, and parent the fourth; the second
// may hold anything.
func state(stat string) (state byte, parent string) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 2 {
		return 'R', ""
	}
	return f[0][0], f[1]
}

// run is the guest until it ends: this process itself, or an interpreter that
// it starts and speaks for.
func run(s *contain.Setup, pipe *os.File, std []int, stopped *sync.Mutex) int {
	var err error
	switch s.Guest.Runner {
	case "hold":
		_, err = io.Copy(io.Discard, pipe)
	case contain.TemplateRunner:
		err = runners.ServeTemplate(pipe, s.Guest, contain.TemplatePath, stopped)
	case "exec", "shell", "files", "mcp":
		err = runners.Serve(pipe, s.Guest, stopped, std...)
	default:
		err = runners.Interpret(pipe, s.Guest, contain.RunnerPath, stopped)
	}
	if err != nil {
		// An interpreter that does not start says why; whoever waits for Ready
		// reads it.
		guest.Write(pipe, guest.Frame{Type: guest.Failure, Body: []byte(err.Error())})
		return 1
	}
	return 0
}
