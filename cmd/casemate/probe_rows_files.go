package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Attacks on the host's files, and on what runs later because a file is there.
var probeFileRows = []probeRow{
	{name: "host-files", tried: "read a file of the host that everyone may read, /etc/shadow, /proc/1/root; look for /root, /home, /var, /run, /opt, /boot and a folder granted to another tool; write and make files in /etc, /usr and /",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			v := s.place.path("vault/shadow")
			s.none(ctx, r, "attacker", append(words("read /etc/shadow", "read /proc/1/root/etc/shadow", "list /root", "list /home", "list /var/lib", "list /run", "list /opt", "list /boot", "exists /shared/doc.txt", "exists /work",
				"write /etc/passwd x", "write /usr/bin/env x", "mkdir /usr/evil", "mkdir /evil", "mkdir /etc/evil"),
				[]string{"read", v}, []string{"read", "/tmp/../" + v}, []string{"list", filepath.Dir(v)})...)
		}},
	{name: "prefix-match", tried: "with ./shared granted at /shared, reach ./shared-evil by name, by .. and by the host's path",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "reader", append(words("read /shared-evil/secret", "read /shared/../shared-evil/secret", "list /shared/../shared-evil"), []string{"read", s.place.path("shared-evil/secret")})...)
		}},
	{name: "read-only", tried: "overwrite, chmod, replace and link to a file of a folder granted with access: read, and make one beside it",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if _, ok := s.try(ctx, r, "reader", words("write /shared/doc.txt evil", "chmod /shared/doc.txt 777", "creat /shared/new 644 evil", "plant /tmp/x evil", "rename /tmp/x /shared/doc.txt", "link /shared/doc.txt /shared/l")...); !ok {
				return
			}
			info, err := os.Stat(s.place.path("shared/doc.txt"))
			got, made := s.place.holds("shared/doc.txt"), s.place.there("shared/new", "shared/l")
			r.judge(err != nil || info.Mode().Perm() != 0o644 || got != untouched || len(made) > 0, "on the host the file holds %q; beside it was made: %s", strings.TrimSpace(got), orNone(made))
		}},
	{name: "symlink-write", tried: "write through a link of the granted folder to ../victim/file, through links that it makes to it, to .. and to /, and by renames to it",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			v := s.place.path("victim")
			if _, ok := s.try(ctx, r, "workshop", append(words("write /work/planted evil", "symlink ../victim /work/up", "write /work/up/file evil", "symlink / /work/root", "plant /work/d/file evil", "rename /work/d/file /work/../victim/file", "rename /work/d /work/../victim"),
				[]string{"symlink", v + "/file", "/work/out"}, []string{"write", "/work/out", "evil"}, []string{"write", "/work/root" + v + "/file", "evil"})...); !ok {
				return
			}
			s.untouched(r, "project/up", "project/root", "project/out")
		}},
	{name: "symlink-race", tried: "swap a folder of a grant with a link to a folder of the host all the while that it is read, and leave the last of them to be carried out",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			o, ok := s.one(ctx, r, "workshop", "race", "/work/race", s.place.path("vault"))
			if !ok {
				return
			}
			links := 0
			filepath.WalkDir(s.place.path("project/race"), func(_ string, d fs.DirEntry, err error) error {
				if err == nil && d.Type()&fs.ModeSymlink != 0 {
					links++
				}
				return nil
			})
			s.untouched(r)
			if r.Verdict == verdictHeld {
				r.judge(o.Through || links > 0, "inside: %s; links that came out of it: %d", short(o.Got), links)
			}
		}},
	{name: "absent-protected-path", tried: "make what programs of the host run later where nothing like it is yet: .git/hooks, .bashrc, .mcp.json, .vscode, .claude, .envrc, AGENTS.md, casemate.yaml, at once, by rename and in another case",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			names := []string{".bashrc", ".profile", ".mcp.json", ".npmrc", ".envrc", "CLAUDE.md", "AGENTS.md", "casemate.yaml", ".vscode/tasks.json", ".claude/settings.json", ".BASHRC", "fresh/.git/hooks/pre-commit", "fresh/.git/config", "fresh/.GIT/hooks/x", "deep/down/.envrc"}
			s.plants(ctx, r, names)
		}},
	{name: "dotfile-plant", tried: "change .git/config of a repository in a granted folder, add hooks to it, and put another folder in its place",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			config := s.place.holds("project/repo/.git/config")
			if _, ok := s.try(ctx, r, "workshop", words("plant /work/repo/.git/hooks/pre-commit evil", "plant /work/repo/.git/config evil", "plant /work/z/hooks/post-checkout evil", "rename /work/repo/.git /work/repo/old", "rename /work/z /work/repo/.git")...); !ok {
				return
			}
			made := s.place.there("project/repo/.git/hooks/pre-commit", "project/repo/.git/hooks/post-checkout")
			r.judge(len(made) > 0 || s.place.holds("project/repo/.git/config") != config, "hooks that came to be on the host: %s; .git/config holds %q", orNone(made), short(s.place.holds("project/repo/.git/config")))
		}},
	{name: "git-bare", tried: "plant a bare repository, with a program in its configuration, in a granted folder",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if _, ok := s.try(ctx, r, "workshop", []string{"plant", "/work/bare/HEAD", "ref: refs/heads/main\n"}, []string{"plant", "/work/bare/config", "[core]\n\tfsmonitor = evil\n"}, []string{"plant", "/work/bare/objects/x", "x"}, []string{"plant", "/work/bare/refs/x", "x"}); !ok {
				return
			}
			made := s.place.there("project/bare/HEAD", "project/bare/config", "project/bare/objects", "project/bare/refs")
			r.judge(len(made) == 4, "of the four that make a repository came to be on the host: %s", orNone(made))
		}},
	{name: "setuid-plant", tried: "make setuid and setgid files in a granted folder, chmod what is there, and the folder",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			if _, ok := s.try(ctx, r, "workshop", words("creat /work/x 4755 code", "creat /work/y 2755 code", "creat /work/z 755 code", "chmod /work/z 4755", "chmod /work/z 2755", "chmod /work/keep 6777", "chmod /work 2777", "mkdir /work/sid", "chmod /work/sid 3777")...); !ok {
				return
			}
			var bad []string
			n := 0
			filepath.WalkDir(s.place.path("project"), func(path string, _ fs.DirEntry, _ error) error {
				if info, err := os.Lstat(path); err == nil {
					if n++; info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
						bad = append(bad, filepath.Base(path))
					}
				}
				return nil
			})
			r.judge(len(bad) > 0, "of %d files on the host these have such a bit: %s", n, orNone(bad))
		}},
	{name: "setuid-own", tried: "make setuid and setgid files in its own /tmp",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "attacker", words("creat /tmp/x 4755 code", "creat /tmp/y 2755 code")...)
		}},
	{name: "execute-data", tried: "copy a program to /tmp, /out, /dev/shm and a write grant without execute: true, and run it",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			s.none(ctx, r, "workshop", words("run /tmp/x", "run /out/x", "run /dev/shm/x", "run /work/x")...)
		}},
	{name: "page-cache-write", tried: "open AF_ALG sockets, by the foreign interfaces of the processor too; write the program that it was started from, and /usr/bin/env",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			before := sumOf(s.place.self)
			out, ok := s.try(ctx, r, "attacker", words("socket 38 5 0", "socket 38 1 0", "foreign", "write "+attackerAt+" x", "chmod "+attackerAt+" 777", "write /proc/self/exe x", "write /usr/bin/env x")...)
			if !ok {
				return
			}
			through, said := sum(out)
			r.judge(through > 0 || sumOf(s.place.self) != before, "the shared file has the same digest; %s", said)
		}},
	{name: "granted-socket", tried: "connect to a unix socket and write to a FIFO of the host that lie in a folder granted to be read",
		run: func(s *probeSite, ctx context.Context, r *attackRow) { s.grantedSocket(ctx, r) }},
	{name: "model-cwd", tried: "ask for mounts, a working folder and a network beside the arguments, and name files of the host in them",
		run: func(s *probeSite, ctx context.Context, r *attackRow) {
			v := s.place.path("vault/shadow")
			a, err := s.planner.call(ctx, "attacker", map[string]any{"do": s.batch([]string{"read", v}), "cwd": s.place.path("vault"), "network": "loopback", "filesystem": []any{map[string]any{"path": "/", "at": "/host"}}})
			if err != nil {
				r.failed("%v", err)
				return
			}
			out, ok := s.try(ctx, r, "attacker", []string{"read", "$(cat " + v + ")"}, []string{"read", "file://" + v}, []string{"read", "{do}"}, []string{"list", "/host"})
			if !ok {
				return
			}
			through, said := sum(out)
			r.judge(!a.failed || strings.Contains(a.text, canary) || through > 0, "the call with more than its arguments was answered %q; %s", short(a.text), said)
		}},
}

// untouched judges whether the victim beside the granted folder is as it was,
// and that none of links came to be.
func (s *probeSite) untouched(r *attackRow, links ...string) {
	var names []string
	entries, err := os.ReadDir(s.place.path("victim"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	got, made := s.place.holds("victim/file"), s.place.there(links...)
	r.judge(err != nil || got != untouched || !slices.Equal(names, []string{"file"}) || len(made) > 0,
		"on the host victim/file holds %q, its folder %s; links that came to be: %s", strings.TrimSpace(got), strings.Join(names, ", "), orNone(made))
}

// plants has each name planted in the granted folder, at once and by rename;
// none may come to be on the host.
func (s *probeSite) plants(ctx context.Context, r *attackRow, names []string) {
	var do [][]string
	var there []string
	for i, n := range names {
		plain := fmt.Sprintf("/work/plain%d", i)
		do = append(do, []string{"plant", "/work/" + n, "evil"}, []string{"plant", plain, "evil"}, []string{"rename", plain, "/work/" + n})
		there = append(there, "project/"+n)
	}
	if _, ok := s.try(ctx, r, "workshop", do...); ok {
		made := s.place.there(there...)
		r.judge(len(made) > 0, "of %d such files, on the host exist: %s", len(names), orNone(made))
	}
}

// grantedSocket puts a socket and a FIFO into the folder that is granted.
func (s *probeSite) grantedSocket(ctx context.Context, r *attackRow) {
	dir, err := os.Open(s.place.path("shared"))
	if err != nil {
		r.failed("%v", err)
		return
	}
	defer dir.Close()
	// By the folder's descriptor: the name of a socket may have 107 bytes.
	t, err := newTrap("unix", fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd()))
	if err != nil {
		r.failed("no unix socket can be made: %v", err)
		return
	}
	hits := int64(-1)
	defer func() {
		if hits < 0 {
			t.close()
		}
	}()
	os.Chmod(s.place.path("shared/s"), 0o777)
	name := s.place.path("shared/fifo")
	if err := unix.Mkfifo(name, 0o666); err != nil {
		r.failed("no FIFO can be made: %v", err)
		return
	}
	os.Chmod(name, 0o666)
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		r.failed("%v", err)
		return
	}
	defer f.Close()
	out, ok := s.try(ctx, r, "reader", words("connect unix /shared/s", "write /shared/fifo "+canary)...)
	if !ok {
		return
	}
	hits = t.close()
	var b [64]byte
	n, _ := unix.Read(int(f.Fd()), b[:])
	_, said := sum(out)
	r.judge(hits > 0 || n > 0, "the listener counted %d connections, the FIFO gave %d bytes; %s", hits, max(n, 0), said)
}

// sumOf is the digest of a file, or why there is none.
func sumOf(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}
