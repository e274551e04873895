package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/bench"
	"github.com/casemate/casemate/internal/guest"
)

func shellPairs(command string) []guest.Pair { return []guest.Pair{{Key: "command", Value: command}} }

// there says whether there is such a process.
func there(pid int) bool {
	_, err := os.Stat("/proc/" + strconv.Itoa(pid))
	return err == nil
}

// memory measures what guests that wait hold: the private memory of every
// process that there was not before, with one guest, with two, and with more.
// What is needed once (a template that others are forked from, the pages of a
// program that only one process has mapped) is of the first.
func (o *benchOurs) memory(ctx context.Context, guests int) (out []bench.Memory, failed []bench.Failure) {
	for _, m := range []struct {
		tool    casemate.ToolName
		subject string
		note    string
	}{
		{toolTrue, "exec", ""},
		{toolReader, "built in", ""},
		{toolPython, "python", "the first with the template that all are forked from"},
		{toolPythonCold, "python, fork: false", "an interpreter each"},
		{toolNode, "node", ""},
		{"oci_true", "oci", "an exec guest in a container of its own"},
		{"gvisor_true", "gvisor", "an exec guest with a kernel of its own"},
		{"wasm_module", "wasm", "a worker with its module"},
	} {
		before := below(os.Getpid())
		var all []casemate.Sandbox
		at := func(n int) (total int64, unread int, err error) {
			for len(all) < n {
				sb, err := o.start(ctx, m.tool)
				if err != nil {
					return 0, 0, err
				}
				all = append(all, sb)
			}
			// A guest may be of a process that waited for it.
			old := slices.Clone(before)
			for _, sb := range all {
				if p, ok := sb.(interface{ Pid() int }); ok {
					own := append(below(p.Pid()), p.Pid())
					old = slices.DeleteFunc(old, func(pid int) bool { return slices.Contains(own, pid) })
				}
			}
			total, unread = private(slices.DeleteFunc(below(os.Getpid()), func(pid int) bool { return slices.Contains(old, pid) }))
			return total, unread, nil
		}
		var held [3]int64
		var unread int
		var err error
		for i, n := range []int{1, 2, guests} {
			if held[i], unread, err = at(n); err != nil {
				break
			}
		}
		for _, sb := range all {
			sb.Close()
		}
		if err != nil {
			failed = append(failed, bench.Failure{Subject: "memory", Payload: m.subject, Why: err.Error()})
			continue
		}
		out = append(out, bench.Memory{Subject: m.subject, First: held[0], Further: float64(held[2]-held[1]) / float64(guests-2), Guests: guests, Unread: unread, Note: m.note})
	}
	return out, failed
}

// below are the processes that one started, and those that they did.
func below(pid int) []int {
	out := []int{pid}
	children := map[int][]int{}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it is gone
		}
		s := string(b)
		fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if len(fields) > 1 {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], child)
		}
	}
	for i := 0; i < len(out); i++ {
		out = append(out, children[out[i]]...)
	}
	return slices.Delete(out, 0, 1)
}

// private sums what processes have for themselves, in bytes. One that may not
// be read (it is of another user, or non-dumpable and this is not root) is
// counted, and not in the sum.
func private(pids []int) (total int64, unread int) {
	for _, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
		if err != nil {
			if there(pid) {
				unread++
			}
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], "Private_") {
				kib, _ := strconv.ParseInt(f[1], 10, 64)
				total += kib << 10
			}
		}
	}
	return total, unread
}
