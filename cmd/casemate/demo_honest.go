package main

import (
	"context"
	"fmt"
	"strings"
)

// An honestRow is one task of the honest planner.
type honestRow struct {
	Task     string `json:"task"`
	Did      string `json:"did"`
	Evidence string `json:"evidence"`
	Verdict  string `json:"verdict"` // done, FAILED, not here
}

const verdictDone, verdictFailed, verdictAbsent = "done", "FAILED", "not here"

// A step is a call and what its answer must hold.
type step struct {
	tool string
	args map[string]any
	want string
}

// do makes calls one after the other and returns the last answer.
func (d *demo) do(ctx context.Context, steps ...step) (string, error) {
	last := ""
	for _, s := range steps {
		a, err := d.honest.call(ctx, s.tool, s.args)
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.tool, err)
		}
		if a.failed || !strings.Contains(a.text, s.want) {
			return "", fmt.Errorf("%s answered %q", s.tool, short(a.text))
		}
		last = a.text
	}
	return last, nil
}

// honestTasks are the honest planner's.
func (d *demo) honestTasks() []struct {
	name, did string
	run       func(context.Context) (string, error)
} {
	compute, session := step{"shell", map[string]any{"command": "i=1; p=1; while [ $i -le 20 ]; do p=$((p*i)); i=$((i+1)); done; echo $p"}, "2432902008176640000"},
		[]step{{"notebook", map[string]any{"command": "echo 41 > /tmp/x"}, ""}, {"notebook", map[string]any{"command": "echo $(($(cat /tmp/x)+1))"}, "42"}}
	computed, kept := "20! by the shell", "a file in /tmp, set in one call and used in the next"
	if d.python {
		compute = step{"python", map[string]any{"code": "import math\nmath.factorial(25)"}, "15511210043330985984000000"}
		session = []step{{"python", map[string]any{"code": "x = 41"}, ""}, {"python", map[string]any{"code": "x + 1"}, "42"}}
		computed, kept = "25! by Python", "a variable of Python, set in one call and used in the next"
	}
	path := func(name string, more ...string) map[string]any {
		m := map[string]any{"path": "/work/" + name}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	return []struct {
		name, did string
		run       func(context.Context) (string, error)
	}{
		{"compute", computed, func(ctx context.Context) (string, error) {
			s, err := d.do(ctx, compute)
			return "the planner got " + short(s), err
		}},
		{"read, edit and write files of a granted folder", "read_file, edit_file and write_file of the project", func(ctx context.Context) (string, error) {
			if _, err := d.do(ctx, step{"read_file", path("notes/todo.txt"), "harbour"}, step{"edit_file", path("notes/todo.txt", "old", "buy milk", "new", "milk is bought"), ""},
				step{"write_file", path("notes/done.txt", "content", "bought milk\n"), ""}); err != nil {
				return "", err
			}
			if got := d.place.holds("project/notes/todo.txt") + d.place.holds("project/notes/done.txt"); got != "milk is bought\nfix the harbour light\nbought milk\n" {
				return "", fmt.Errorf("the files on the host hold %q", got)
			}
			return "on the host both files hold what was written, and no more", nil
		}},
		{"search", "search_files for a word", func(ctx context.Context) (string, error) {
			s, err := d.do(ctx, step{"search_files", path("", "text", "harbour"), "todo.txt"})
			return "the planner got " + short(s), err
		}},
		{"run a program", "exec: sort of a file", func(ctx context.Context) (string, error) {
			s, err := d.do(ctx, step{"sort", map[string]any{"file": "/work/numbers.txt"}, "1\n2\n3\n"})
			return "the planner got " + strings.Join(strings.Fields(s), " "), err
		}},
		{"keep state in a session", kept, func(ctx context.Context) (string, error) {
			s, err := d.do(ctx, session...)
			return "the planner got " + short(s), err
		}},
	}
}
