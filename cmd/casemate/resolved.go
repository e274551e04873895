package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
)

// grant adds a folder of programs.
func (r *interpreters) grant(out *resolved, folder string) error {
	if w := overlapping(r.writable, folder); w != "" {
		return &casemate.Error{Op: "command", Kind: casemate.Unsupported, Err: fmt.Errorf("%s overlaps the write grant %s: a tool could change what runs", folder, w), Fix: "move it to a folder of its own, outside every write grant"}
	}
	out.mount(folder)
	return nil
}

// mount adds a file or folder under its own path, unless what is there holds
// it. Of a single file nothing is run by itself: its interpreter reads it.
func (out *resolved) mount(p string) {
	if within(systemFolders, p) {
		return
	}
	for _, m := range out.Mounts {
		if m.Source == m.At && within([]string{m.At}, p) {
			return
		}
	}
	fi, err := os.Stat(p)
	out.Mounts = append(out.Mounts, plan.Mount{Source: p, At: p, Execute: err == nil && fi.IsDir(), Prefix: true})
}

// beside returns the mounts of out that those of a profile leave to add: what
// the profile grants at a path is what is there, but for folders of programs,
// which run only from what is granted for it.
func (out resolved) beside(own []casemate.Mount) []plan.Mount {
	return slices.DeleteFunc(slices.Clone(out.Mounts), func(m plan.Mount) bool {
		return slices.ContainsFunc(own, func(o casemate.Mount) bool {
			if !within([]string{o.At}, m.At) {
				return false
			}
			same := filepath.Join(o.Path, strings.TrimPrefix(m.At, o.At)) == m.Source
			return !same || o.Execute || !m.Execute
		})
	})
}

// environ returns the guest's variables with those that out needs.
func (out resolved) environ(env []string) []string {
	vars := map[string]string{}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		vars[k] = v
	}
	for k, v := range out.Env {
		if old := vars[k]; old != "" && k == "PYTHONPATH" {
			v += ":" + old
		} else if old != "" {
			continue
		}
		vars[k] = v
	}
	if len(out.Path) > 0 {
		vars["PATH"] = strings.Join(append(slices.Clone(out.Path), vars["PATH"]), ":")
	}
	env = nil
	for k, v := range vars {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env
}

// holding returns the first of grants that holds p.
func holding(grants []string, p string) string {
	for _, g := range grants {
		if within([]string{g}, p) {
			return g
		}
	}
	return ""
}
