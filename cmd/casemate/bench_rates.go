package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/bench"
)

// rates measures throughput: what all cores do together, with as many workers
// as cores for what works in this process or starts a program, and twice that
// for what goes through a server, so that it is never idle.
func (b *benchRun) rates(ctx context.Context) ([]bench.Rate, []bench.Failure) {
	cores := runtime.NumCPU()
	var crowds []bench.Crowd
	program := func(subject string, argv []string, p benchPayload) {
		c := bench.Crowd{Subject: subject, Payload: p.name, Note: "a program for each"}
		for range cores {
			s, err := newBenchSpawn(b.peers.spawn.env)
			if err != nil {
				return
			}
			b.peers.ends = append(b.peers.ends, s.close)
			c.Workers = append(c.Workers, func(ctx context.Context) error { _, err := s.run(ctx, argv, p.want); return err })
		}
		crowds = append(crowds, c)
	}
	for _, p := range b.peers.payloads() {
		if p.name == payloadStatic {
			continue
		}
		if argv, err := b.peers.found(bench.Base, p); err == nil {
			program(bench.Base, argv, p)
		}
		program("posix_spawn", p.argv, p)
	}
	for _, floor := range [][2]string{{bench.FloorAll, "1"}, {bench.FloorShared, "0"}} {
		crowd := bench.Crowd{Subject: floor[0], Payload: "nothing", Note: "the kernel alone"}
		for range cores {
			if s, err := b.peers.floor(floor[1]); err == nil {
				crowd.Workers = append(crowd.Workers, func(ctx context.Context) error { _, err := s.run(ctx); return err })
			}
		}
		if len(crowd.Workers) == cores {
			crowds = append(crowds, crowd)
		}
	}
	call := func(subject, payload, note string, c benchCall) {
		crowd := bench.Crowd{Subject: subject, Payload: payload, Note: note}
		for range cores {
			crowd.Workers = append(crowd.Workers, func(ctx context.Context) error {
				sb, err := b.ours.start(ctx, c.tool)
				if err != nil {
					return err
				}
				return errors.Join(c.do(sb), sb.Close())
			})
		}
		crowds = append(crowds, crowd)
	}
	call("process/forked", payloadPython, "start, call, and end", benchCall{tool: toolPython, pairs: pythonPairs, want: pythonPrints})
	call("process/cold", payloadTrue, "start, call, and end", benchCall{tool: toolTrue})
	served := func(c *benchClient, subject, payload, params, want string) {
		crowd := bench.Crowd{Subject: subject, Payload: payload, Note: "through casemate serve, with its pool"}
		if c == b.servers.direct {
			crowd.Note = "the server itself"
		}
		for range 2 * cores {
			crowd.Workers = append(crowd.Workers, func(ctx context.Context) error {
				err := c.call(ctx, params, want)
				if err != nil {
					err = fmt.Errorf("%s: %w", subject, err)
				}
				return err
			})
		}
		crowds = append(crowds, crowd)
	}
	if b.servers != nil {
		served(b.servers.stdio, "mcp/stdio", payloadPython, callPython, wantPython)
		served(b.servers.stdio, "mcp/stdio", payloadTrue, callTrue, `"result"`)
		served(b.servers.direct, "mcp/direct", payloadEcho, callEcho, wantEcho)
		served(b.servers.stdio, "mcp/stdio", payloadEcho, callEcho, wantEcho)
	}
	crowds = b.chosenCrowds(crowds)
	n, length := 7, time.Second
	if b.quick {
		n, length = 2, 200*time.Millisecond
	}
	return bench.Rates(ctx, crowds, n, length)
}

func (b *benchRun) chosenCrowds(all []bench.Crowd) (out []bench.Crowd) {
	for _, c := range all {
		if b.wants(c.Subject) || c.Subject == bench.Base && len(b.only) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// killing is a subject: a guest whose program runs is ended, and the time until
// nothing of it is left.
func (o *benchOurs) killing() bench.Subject {
	return bench.Subject{Name: "process/kill", Payload: "gone", Note: "a guest whose program runs, until nothing of it is left", Run: func(ctx context.Context) (time.Duration, error) {
		sb, err := o.start(ctx, toolShell)
		if err != nil {
			return 0, err
		}
		defer sb.Close()
		if _, err := askGuest(sb, true, shellPairs("echo here; exec sleep 60")...); err != nil {
			return 0, err
		}
		began := time.Now()
		err = sb.Close()
		took := time.Since(began)
		if p, ok := sb.(interface{ Pid() int }); ok && err == nil && there(p.Pid()) {
			err = &casemate.Error{Op: "kill", Kind: casemate.Internal, Err: fmt.Errorf("process %d is still there", p.Pid())}
		}
		return took, err
	}}
}
