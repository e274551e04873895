package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/casemate/casemate/internal/bench"
)

// pythonFork forks a warm Python, bare, for each byte that it reads.
const pythonFork = `import os
while os.read(0, 1):
    pid = os.fork()
    if pid == 0:
        os.write(2, b'%d\n' % (6*7))
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        os._exit(1)
    os.write(1, b'x')
`

// pythonWarm runs the payload in a warm Python, without a process for it.
const pythonWarm = `import os
while os.read(0, 1):
    exec(compile("` + pythonCode + `", "code", "exec"), {"print": lambda x: os.write(2, b'%d\n' % x)})
    os.write(1, b'x')
`

// sandlockFork is a fork by sandlock's library, whose fork starts a sandbox of
// Landlock and seccomp, forks the interpreter in it, and returns at the end.
const sandlockFork = `import os, sys
from sandlock import Sandbox
box = Sandbox(fs_readable=sys.argv[1:], fs_writable=['/tmp'], init_fn=lambda: None, work_fn=lambda n: print(6*7))
out = os.dup(1)
while os.read(0, 1):
    if len(box.fork(1).pids) != 1:
        os._exit(1)
    os.write(out, b'x')
`

// A benchStep is a program that does something once for each byte of its
// standard input, and then answers with a byte.
type benchStep struct {
	in  io.WriteCloser
	out *os.File
	cmd *exec.Cmd
	err *tailBuffer
}

func newBenchStep(env []string, argv ...string) (*benchStep, error) {
	s := &benchStep{cmd: exec.Command(argv[0], argv[1:]...), err: &tailBuffer{}}
	s.cmd.Env, s.cmd.Dir, s.cmd.Stderr = env, "/", s.err
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe() // with deadlines
	if err != nil {
		return nil, err
	}
	s.out, s.cmd.Stdout = r, w
	err = s.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	return s, nil
}

func (s *benchStep) run(context.Context) (time.Duration, error) {
	began := time.Now()
	s.out.SetReadDeadline(began.Add(patience))
	_, err := s.in.Write([]byte("x"))
	if err == nil {
		_, err = io.ReadFull(s.out, make([]byte, 1))
	}
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, lastLine(s.err))
	}
	return took, nil
}

func (s *benchStep) close() {
	s.in.Close()
	late := time.AfterFunc(5*time.Second, func() { syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
	s.cmd.Wait()
	late.Stop()
	s.out.Close()
}

// floors are what the kernel alone needs, and a fork of a warm Python.
func (b *benchPeers) floors() (out []bench.Subject, failed []bench.Failure) {
	step := func(name, payload, note string, argv ...string) {
		s, err := newBenchStep(b.spawn.env, argv...)
		if err != nil {
			failed = append(failed, bench.Failure{Subject: name, Payload: payload, Why: err.Error()})
			return
		}
		b.ends = append(b.ends, s.close)
		out = append(out, bench.Subject{Name: name, Payload: payload, Note: note, Run: s.run})
	}
	if program, err := b.compile(); err != nil {
		failed = append(failed, bench.Failure{Subject: "floor", Payload: "nothing", Why: err.Error()})
	} else {
		step(bench.FloorAll, "nothing", "clone with every namespace, tmpfs, proc, exit: the kernel alone", program, "1")
		step(bench.FloorShared, "nothing", "the same without a network namespace", program, "0")
		step(bench.FloorSwitch, "nothing", "a byte to a process that waits, and one back", program, "2")
	}
	if b.python == "" {
		return out, failed
	}
	step(bench.FloorWarm, payloadPython, "in a Python that waits, with no process for the call", b.python, "-I", "-S", "-c", pythonWarm)
	step(bench.FloorFork, payloadPython, "os.fork of a warm Python, no sandbox", b.python, "-I", "-S", "-c", pythonFork)
	if python := b.withSandlock(); python != "" {
		argv := append([]string{python, "-c", sandlockFork}, b.read...)
		for _, l := range b.links {
			argv = append(argv, l[1])
		}
		argv = append(argv, filepath.Dir(filepath.Dir(python)))
		step("sandlock/forked", payloadPython, "its own fork of a warm Python: Landlock and seccomp, no namespace", argv...)
	}
	return out, failed
}

// floor is another process of the program that shows the kernel's own floor.
func (b *benchPeers) floor(net string) (*benchStep, error) {
	s, err := newBenchStep(b.spawn.env, b.place.path("floor"), net)
	if err == nil {
		b.ends = append(b.ends, s.close)
	}
	return s, err
}

// compile makes the program that shows the kernel's own floor.
func (b *benchPeers) compile() (string, error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return "", errors.New("no C compiler is on PATH: the kernel's own floor is not measured")
	}
	source, program := b.place.path("floor.c"), b.place.path("floor")
	if err := os.WriteFile(source, []byte(bench.FloorSource()), 0o644); err != nil {
		return "", err
	}
	if _, err := b.said(cc, "-O2", "-o", program, source); err != nil {
		return "", err
	}
	return program, nil
}

// withSandlock is an interpreter that has sandlock's library: that of its MCP
// server, or the first on PATH.
func (b *benchPeers) withSandlock() string {
	var candidates []string
	if program, err := exec.LookPath("sandlock-mcp"); err == nil {
		if head, err := os.ReadFile(program); err == nil {
			if interpreter, _, err := interpreterOf(head[:min(len(head), 1<<10)]); err == nil {
				candidates = append(candidates, interpreter)
			}
		}
	}
	if program, err := exec.LookPath("python3"); err == nil {
		candidates = append(candidates, program)
	}
	for _, c := range candidates {
		if _, err := b.said(c, "-c", "import sandlock"); err == nil {
			return c
		}
	}
	return ""
}

// sandlockMCP is its MCP server, which starts a sandbox for each call.
func (b *benchPeers) sandlockMCP(ctx context.Context) (out []bench.Subject, absent []string, failed []bench.Failure) {
	const name = "sandlock/mcp"
	program, err := exec.LookPath("sandlock-mcp")
	if err != nil {
		return nil, []string{"sandlock-mcp"}, nil
	}
	dir, err := b.folder("sandlock")
	if err == nil {
		cmd := exec.Command(program, "--workspace", dir)
		cmd.Env = b.spawn.env
		var c *benchClient
		if c, err = dialStdio(ctx, cmd); err == nil {
			b.ends = append(b.ends, c.close)
			return []bench.Subject{{Name: name, Payload: payloadPython, Note: "its MCP server, a sandbox for each call", Run: c.timed(callPython, "42")}}, nil, nil
		}
	}
	return nil, nil, []bench.Failure{{Subject: name, Payload: payloadPython, Why: err.Error()}}
}
