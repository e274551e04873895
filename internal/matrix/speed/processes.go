package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A memory is what one process has in memory, in KiB.
type memory struct {
	name      string
	now, peak int
}

// resident reads the memory of processes, and begins their peaks anew.
func resident(pids []int) (map[int]memory, error) {
	out := map[int]memory{}
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return nil, err
		}
		field := func(name string) string {
			_, rest, _ := strings.Cut(string(b), name+":")
			line, _, _ := strings.Cut(rest, "\n")
			return strings.TrimSuffix(strings.TrimSpace(line), " kB")
		}
		m := memory{name: field("Name")}
		m.now, _ = strconv.Atoi(field("VmRSS"))
		m.peak, _ = strconv.Atoi(field("VmHWM"))
		if argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
			if words := strings.Split(string(argv), "\x00"); len(words) > 1 {
				m.name = words[1]
			}
		}
		out[pid] = m
		os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // where it may not, the peak is of all its life
	}
	return out, nil
}

// processes are those of the casemate with that subcommand, and all below but
// the server.
func (p *place) processes(subcommand string) (out []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range all {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
		argv, _ := os.ReadFile(filepath.Join(filepath.Dir(exe), "cmdline"))
		words := strings.Split(string(argv), "\x00")
		if to, err := os.Readlink(exe); err == nil && to == p.casemate() && len(words) > 1 && words[1] == subcommand {
			out = append(out, below(pid)...)
		}
	}
	return out
}

// below are a process and all that it started but the server.
func below(pid int) []int {
	out := []int{pid}
	children := map[int][]int{}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		s := string(b)
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		parent, _ := strconv.Atoi(strings.Fields(s[strings.LastIndexByte(s, ')')+1:])[1])
		children[parent] = append(children[parent], child)
	}
	for i := 0; i < len(out); i++ {
		for _, c := range children[out[i]] {
			argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c))
			if !slices.Contains(strings.Split(string(argv), "\x00"), "server") {
				out = append(out, c)
			}
		}
	}
	return out
}
