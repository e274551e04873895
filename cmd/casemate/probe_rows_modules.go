package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casemate/casemate"
)

// configureWasm writes the modules, and a tool for each.
func (s *probeSite) configureWasm(b *strings.Builder) error {
	if err := os.MkdirAll(s.place.path("modules"), 0o755); err != nil {
		return err
	}
	tools, grants := wasmTools(), map[string]string{"links": "{path: ./project, at: /work, access: write}", "plants": "{path: ./project, at: /work, access: write}",
		"neighbours": "{path: ./shared, at: /shared, access: read}", "change": "{path: ./shared, at: /shared, access: read}"}
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		if err := os.WriteFile(s.place.path("modules/"+name+".wasm"), tools[name], 0o644); err != nil {
			return err
		}
		timeout := "20s"
		if name == "spin" {
			timeout = "3s"
		}
		fmt.Fprintf(b, "  - name: %s\n    description: A hostile module.\n    parameters: {type: object, additionalProperties: false}\n    run: {wasm: {module: ./modules/%s.wasm}}\n    security: {isolation: wasm, network: none, memory: %d, disk: %d, output: %d, timeout: %s, filesystem: [%s]}\n",
			name, name, probeMemory, probeDisk, probeOutput, timeout, grants[name])
	}
	return nil
}

// module calls a module's tool and returns what it printed.
func (s *probeSite) module(ctx context.Context, r *attackRow, tool string) (string, bool) {
	a, err := s.planner.call(ctx, tool, map[string]any{})
	if err != nil || a.failed {
		r.failed("%q %v", short(a.text), err)
		return "", false
	}
	return strings.TrimSpace(a.text), true
}

// errnos judges what a module's calls of WASI were answered: '0' is success.
func (s *probeSite) errnos(ctx context.Context, r *attackRow, tool string) bool {
	said, ok := s.module(ctx, r, tool)
	if !ok {
		return false
	}
	if said == "" {
		r.failed("the module said nothing")
		return false
	}
	through := strings.Count(said, "0")
	r.judge(through > 0, "of its %d calls of WASI %d succeeded", len([]rune(said)), through)
	return true
}

// byErrnos makes a row's attack of one module.
func byErrnos(tool string) func(*probeSite, context.Context, *attackRow) {
	return func(s *probeSite, ctx context.Context, r *attackRow) { s.errnos(ctx, r, tool) }
}

// bomb has a module run that must fail, and a neighbour after it.
func (s *probeSite) bomb(ctx context.Context, r *attackRow, tool string) (a answer, ok bool) {
	a, err := s.planner.call(ctx, tool, map[string]any{})
	if err != nil {
		r.failed("%v", err)
		return a, false
	}
	if next, err := s.planner.call(ctx, "random", map[string]any{}); err != nil || next.failed {
		r.judge(true, "a neighbour's call failed after it: %q %v", short(next.text), err)
		return a, false
	}
	return a, true
}

// counted judges what a module says it got.
func (s *probeSite) counted(ctx context.Context, r *attackRow, tool string, least, most int, what string) {
	said, ok := s.module(ctx, r, tool)
	if !ok {
		return
	}
	n, err := strconv.Atoi(said)
	if err != nil || n < least {
		r.failed("the module said %q", short(said))
		return
	}
	r.judge(n > most, "it got %d %s, and may have %d", n, what, most)
}

// traps judges modules that break the rules of the machine.
func (s *probeSite) traps(ctx context.Context, r *attackRow, tools ...string) {
	var said, ran []string
	for _, tool := range tools {
		a, ok := s.bomb(ctx, r, tool)
		if !ok {
			return
		}
		if !a.failed {
			ran = append(ran, tool)
		}
		said = append(said, short(a.text))
	}
	r.judge(len(ran) > 0, "each ended as a failure of its tool, and a neighbour's call went on: %q; not so: %s", said, orNone(ran))
}

// wasmAttacks are how rows are tried by modules.
func wasmAttacks() map[string]func(*probeSite, context.Context, *attackRow) {
	return map[string]func(*probeSite, context.Context, *attackRow){
		"host-files":   byErrnos("files"),
		"tcp":          byErrnos("sockets"),
		"prefix-match": byErrnos("neighbours"),
		"leaked-fd": func(s *probeSite, ctx context.Context, r *attackRow) {
			said, ok := s.module(ctx, r, "preopens")
			if !ok || !s.errnos(ctx, r, "fds") || r.Verdict != verdictHeld {
				return
			}
			folders := strings.FieldsFunc(said, func(c rune) bool { return c == 0 })
			other := slices.DeleteFunc(slices.Clone(folders), func(f string) bool { return slices.Contains([]string{"/tmp", "/out", "/in", "/dev/shm"}, f) })
			r.judge(len(other) > 0, "it was given the folders %s; of the other descriptors: %s", orNone(folders), r.Evidence)
		},
		"env-poison": func(s *probeSite, ctx context.Context, r *attackRow) {
			if said, ok := s.module(ctx, r, "environ"); ok {
				all := strings.FieldsFunc(said, func(c rune) bool { return c == 0 })
				r.judge(strings.Contains(said, canary), "it has %s, and of the host's secrets none", orNone(all))
			}
		},
		"read-only": func(s *probeSite, ctx context.Context, r *attackRow) {
			if _, ok := s.module(ctx, r, "change"); ok {
				got, made := s.place.holds("shared/doc.txt"), s.place.there("shared/new")
				r.judge(got != untouched || len(made) > 0, "on the host the file holds %q; beside it was made: %s", strings.TrimSpace(got), orNone(made))
			}
		},
		"symlink-write": func(s *probeSite, ctx context.Context, r *attackRow) {
			if _, ok := s.module(ctx, r, "links"); ok {
				s.untouched(r, "project/wup", "project/wroot")
			}
		},
		"absent-protected-path": func(s *probeSite, ctx context.Context, r *attackRow) {
			if _, ok := s.module(ctx, r, "plants"); ok {
				names := []string{"project/.bashrc", "project/.mcp.json", "project/casemate.yaml", "project/.git/hooks", "project/.vscode/tasks.json", "project/.BASHRC"}
				made := s.place.there(names...)
				r.judge(len(made) > 0, "of %d such files, on the host exist: %s", len(names), orNone(made))
			}
		},
		"memory-bomb": func(s *probeSite, ctx context.Context, r *attackRow) {
			if a, ok := s.bomb(ctx, r, "grow"); ok {
				n := strings.TrimSpace(a.text)
				r.judge(!a.failed && n != "0" && n != "1", "it ended with %q times 128 MiB", short(n))
			}
		},
		"disk-bomb": func(s *probeSite, ctx context.Context, r *attackRow) {
			s.counted(ctx, r, "disk", 1, probeDisk>>20, "MiB")
		},
		"fd-bomb": func(s *probeSite, ctx context.Context, r *attackRow) {
			s.counted(ctx, r, "descriptors", 10, 4096, "descriptors")
		},
		"output-flood": func(s *probeSite, ctx context.Context, r *attackRow) {
			if a, ok := s.bomb(ctx, r, "flood"); ok {
				r.judge(len(a.text) > 6*probeOutput+4096, "of 60 MB %d bytes reached the planner, escaped", len(a.text))
			}
		},
		"log-flood": func(s *probeSite, ctx context.Context, r *attackRow) {
			before := sizeOf(s.place.path("state"))
			if _, ok := s.bomb(ctx, r, "logs"); ok {
				grew := sizeOf(s.place.path("state")) - before
				r.judge(grew > 1<<20, "what Casemate keeps on the disk grew by %d bytes", grew)
			}
		},
		"model-cwd": func(s *probeSite, ctx context.Context, r *attackRow) {
			a, err := s.planner.call(ctx, "random", map[string]any{"filesystem": []any{map[string]any{"path": "/", "at": "/host"}}, "network": "loopback"})
			if err != nil {
				r.failed("%v", err)
				return
			}
			r.judge(!a.failed, "the call with more than its arguments was answered %q", short(a.text))
		},
		"reused-sandbox": func(s *probeSite, ctx context.Context, r *attackRow) {
			for range 3 {
				if said, ok := s.module(ctx, r, "kept"); !ok {
					return
				} else if r.judge(said != "0", "its memory begins with %q in each of 3 calls", said); r.Verdict != verdictHeld {
					return
				}
			}
		},
		"clone-rng": func(s *probeSite, ctx context.Context, r *attackRow) {
			var got [2]map[string]string
			for i := range got {
				said, ok := s.module(ctx, r, "random")
				if !ok {
					return
				}
				got[i] = map[string]string{"random_get": said}
			}
			r.alike(got)
		},
		"own-uid": func(s *probeSite, ctx context.Context, r *attackRow) {
			s.uids(ctx, r, func() bool { _, ok := s.bomb(ctx, r, "spin"); return ok })
		},
	}
}

// Attacks by modules alone.
var probeWasmRows = []probeRow{
	{name: "wasm-traps", tried: "modules that read beyond their memory, call a function as one of another type, and recurse without end",
		wasm: func(s *probeSite, ctx context.Context, r *attackRow) { s.traps(ctx, r, "bounds", "table", "recurse") }},
	{name: "wasm-loop", tried: "a module that loops without a call, which nothing can interrupt from within",
		wasm: func(s *probeSite, ctx context.Context, r *attackRow) {
			if a, ok := s.bomb(ctx, r, "spin"); ok {
				r.judge(!a.failed || !strings.Contains(a.text, "timeout"), "the planner got %q", short(a.text))
			}
		}},
	{name: "wasm-refused", tried: "a module with an import that no host has, one of the component model, and one that is cut short",
		wasm: func(s *probeSite, ctx context.Context, r *attackRow) { s.refusedModules(ctx, r) }},
	{name: "wasm-worker", tried: "look from outside at the process in which a hostile module runs: a flaw of the engine must gain nothing",
		wasm: func(s *probeSite, ctx context.Context, r *attackRow) { s.worker(ctx, r) }},
}

// refusedModules calls each by a configuration of its own.
func (s *probeSite) refusedModules(ctx context.Context, r *attackRow) {
	var ran, said []string
	bad := wasmRefused()
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		file := s.place.path(name + ".yaml")
		text := fmt.Sprintf("version: 1\ntools:\n  - name: bad\n    description: A module that is none.\n    parameters: {type: object}\n    run: {wasm: {module: ./%s.wasm}}\n    security: {isolation: wasm}\n", name)
		if err := os.WriteFile(s.place.path(name+".wasm"), bad[name], 0o644); err != nil {
			r.failed("%v", err)
			return
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			r.failed("%v", err)
			return
		}
		out, _ := s.place.command(ctx, "call", "--json", "--config", file, "bad").Output()
		var o struct {
			Error  *casemate.ErrorJSON
			Result *struct{ IsError bool }
		}
		if err := json.Unmarshal(out, &o); err != nil {
			r.failed("casemate call said %q: %v", short(string(out)), err)
			return
		}
		if o.Error == nil && (o.Result == nil || !o.Result.IsError) {
			ran = append(ran, name)
		} else if o.Error != nil {
			said = append(said, short(o.Error.Message))
		}
	}
	r.judge(len(ran) > 0, "refused: %q; not refused: %s", said, orNone(ran))
}

// worker looks at the sandbox's processes while a module loops.
func (s *probeSite) worker(ctx context.Context, r *attackRow) {
	stop := make(chan struct{})
	seen, bad := 0, ""
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			for _, p := range s.confined() {
				if p.status["Name"] == "casemate-init" { // which may be on its way to that
					continue
				}
				seen++
				for k, want := range map[string]string{"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
					if p.status[k] != want {
						bad = fmt.Sprintf("%s of %s is %s", k, p.status["Name"], p.status[k])
					}
				}
			}
		}
	})
	_, ok := s.bomb(ctx, r, "spin")
	close(stop)
	watch.Wait()
	switch {
	case !ok:
	case seen == 0:
		r.failed("no process of the sandbox was seen on the host")
	default:
		r.judge(bad != "", "seen %s: filtered, in a pid namespace of its own, without a capability and with no_new_privs; otherwise: %s", times(seen), orNone(slices.DeleteFunc([]string{bad}, func(b string) bool { return b == "" })))
	}
}
