package main

import (
	"context"
	"fmt"
	"time"

	"github.com/casemate/casemate/internal/bench"
)

// growth measures a call of a Python tool while a server has more and more
// tools, and while it has more and more sessions that take turns. The servers
// of all sizes run at once and are called in turn, at the same rate each.
func (b *benchRun) growth(ctx context.Context) (out []bench.Growth, failed []bench.Failure) {
	tools, sessions := []int{1, 10, 100, 1000}, []int{1, 10, 100, 500}
	each, calls := 100*time.Millisecond, 300
	if b.quick {
		each, calls = 40*time.Millisecond, 50
	}
	one := func(what string, sizes []int, open func(size int) (*bench.Paced, *benchClient, error)) {
		var paced []bench.Paced
		for _, size := range sizes {
			p, c, err := open(size)
			if c != nil {
				defer c.close()
			}
			if err != nil {
				failed = append(failed, bench.Failure{Subject: "growth", Payload: fmt.Sprintf("%d %s", size, what), Why: err.Error()})
				return
			}
			p.Size = size
			paced = append(paced, *p)
		}
		g, err := bench.Grow(ctx, what, paced, each, calls)
		if err != nil {
			failed = append(failed, bench.Failure{Subject: "growth", Payload: what, Why: err.Error()})
			return
		}
		out = append(out, g)
	}
	one("tools", tools, func(size int) (*bench.Paced, *benchClient, error) {
		var all []string
		for i := range size {
			all = append(all, benchPython(fmt.Sprintf("t%d", i)))
		}
		c, err := b.serve(ctx, fmt.Sprintf("tools-%d", size), all...)
		if err != nil {
			return nil, c, err
		}
		const params = `{"name":"t0","arguments":{"code":"` + pythonCode + `"}}`
		for range 5 {
			if err := c.call(ctx, params, wantPython); err != nil {
				return nil, c, err
			}
		}
		return &bench.Paced{Call: func(ctx context.Context, _ int) error { return c.call(ctx, params, wantPython) }}, c, nil
	})
	one("sessions", sessions, func(size int) (*bench.Paced, *benchClient, error) {
		c, err := b.serve(ctx, fmt.Sprintf("sessions-%d", size), benchPython(toolPython))
		if err != nil {
			return nil, c, err
		}
		call := func(ctx context.Context, n int) error {
			return c.call(ctx, fmt.Sprintf(`{"name":"python","arguments":{"code":"%s"},"_meta":{"casemate/session":"s%d"}}`, pythonCode, n%size), wantPython)
		}
		begin := make(chan error, size) // every session has had a call before
		for n := range size {
			go func() { begin <- call(ctx, n) }()
			if n%8 == 7 || n == size-1 {
				for range n%8 + 1 {
					if e := <-begin; e != nil {
						err = e
					}
				}
			}
		}
		return &bench.Paced{Call: call}, c, err
	})
	return out, failed
}

// serve starts a server with tools of its own.
func (b *benchRun) serve(ctx context.Context, name string, tools ...string) (*benchClient, error) {
	config, err := b.place.configure(name, "  pool: {max: 4}\n", tools...)
	if err != nil {
		return nil, err
	}
	return dialStdio(ctx, b.place.casemate(context.WithoutCancel(ctx), config, "serve"))
}
