package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// peers are the other sandboxes, in the order of the report.
func (b *benchPeers) peers() []benchPeer {
	return []benchPeer{
		{name: "bwrap", argv: b.bwrap},
		{name: "unshare", note: "the files of the host are not denied", argv: func(path string, payload []string) ([]string, error) {
			return append([]string{path, "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net", "--cgroup", "--mount-proc", "--"}, payload...), nil
		}},
		{name: "runc", argv: b.oci(func(path, root string) []string { return []string{path, "--root", root, "run", "--bundle"} })},
		{name: "crun", argv: b.oci(func(path, root string) []string { return []string{path, "--root", root, "run", "--bundle"} })},
		{name: "runsc", note: "its own kernel in user space", argv: b.oci(func(path, root string) []string {
			argv := []string{path, "--root", root, "--network=none", "--ignore-cgroups"}
			if os.Geteuid() != 0 {
				argv = append(argv, "--rootless")
			}
			return append(argv, "run", "--bundle")
		})},
		{name: "sandlock", note: "Landlock and seccomp, no namespace", argv: func(path string, payload []string) ([]string, error) {
			argv := append([]string{path, "run"}, b.each(func(d string) []string { return []string{"-r", d} })...)
			return append(append(argv, b.linked("-r")...), append([]string{"-w", "/tmp", "--"}, payload...)...), nil
		}},
		{name: "srt", note: "every file of the host may be read", argv: b.srt},
		{name: "nono", note: "Landlock, no namespace", argv: func(path string, payload []string) ([]string, error) {
			argv := append([]string{path, "run", "--silent", "--block-net"}, b.each(func(d string) []string { return []string{"--read", d} })...)
			return append(append(argv, "--"), payload...), nil
		}},
		{name: "landrun", note: "Landlock, no namespace", argv: func(path string, payload []string) ([]string, error) {
			argv := append([]string{path, "--best-effort"}, b.each(func(d string) []string { return []string{"--rox", d} })...)
			return append(append(argv, b.linked("--rox")...), append([]string{"--"}, payload...)...), nil
		}},
		{name: "firejail", argv: func(path string, payload []string) ([]string, error) {
			return append([]string{path, "--quiet", "--noprofile", "--net=none", "--private", "--private-tmp", "--private-dev", "--caps.drop=all", "--seccomp", "--"}, payload...), nil
		}},
		{name: "nsjail", argv: func(path string, payload []string) ([]string, error) {
			argv := append([]string{path, "--mode", "o", "--really_quiet"}, b.each(func(d string) []string { return []string{"--bindmount_ro", d} })...)
			for _, l := range b.links {
				argv = append(argv, "--symlink", l[0]+":"+l[1])
			}
			return append(append(argv, "--tmpfsmount", "/tmp", "--"), payload...), nil
		}},
		{name: "docker", argv: b.engine},
		{name: "podman", argv: b.rootfs},
	}
}

func (b *benchPeers) bwrap(path string, payload []string) ([]string, error) {
	argv := append([]string{path, "--unshare-all", "--die-with-parent"}, b.each(func(d string) []string { return []string{"--ro-bind", d, d} })...)
	for _, l := range b.links {
		argv = append(argv, "--symlink", l[0], l[1])
	}
	return append(append(argv, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--"), payload...), nil
}

// linked repeats a flag before each link of the system's folders.
func (b *benchPeers) linked(flag string) (out []string) {
	for _, l := range b.links {
		out = append(out, flag, l[1])
	}
	return out
}

// srt takes its settings from a file.
func (b *benchPeers) srt(path string, payload []string) ([]string, error) {
	file := b.place.path("srt.json")
	err := os.WriteFile(file, []byte(`{"network":{"allowedDomains":[],"deniedDomains":[]},"filesystem":{"denyRead":[],"allowWrite":[],"denyWrite":[]}}`), 0o600)
	words := make([]string, len(payload))
	for i, w := range payload {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'" // it hands one line to a shell
	}
	return []string{path, "--settings", file, strings.Join(words, " ")}, err
}

// oci makes a bundle for a runtime: the folders of the payloads, read-only, in
// an empty root.
func (b *benchPeers) oci(run func(path, root string) []string) func(string, []string) ([]string, error) {
	return func(path string, payload []string) ([]string, error) {
		bundle, err := b.folder("bundle")
		if err != nil {
			return nil, err
		}
		root, err := b.tree(filepath.Join(bundle, "rootfs"))
		if err != nil {
			return nil, err
		}
		state, err := b.folder("oci")
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(b.bundle(root, payload))
		if err == nil {
			err = os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644)
		}
		name := "casemate-bench-" + filepath.Base(bundle)
		b.ends = append(b.ends, func() {
			b.spawn.run(b.ending(), []string{path, "--root", state, "delete", "--force", name}, "")
			unix.Unmount(filepath.Join(state, "null-netns"), unix.MNT_DETACH) // runsc keeps one mounted
		})
		return append(run(path, state), bundle, name), err
	}
}

// tree makes the empty root, with mount points and links.
func (b *benchPeers) tree(root string) (string, error) {
	var err error
	for _, d := range append([]string{"/proc", "/dev", "/tmp"}, b.read...) {
		err = errors.Join(err, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	for _, l := range b.links {
		err = errors.Join(err, os.Symlink(l[0], filepath.Join(root, l[1])))
	}
	return root, err
}

// bundle is the runtime's configuration: every namespace, no capability, no
// network beyond a loopback that is down.
func (b *benchPeers) bundle(root string, payload []string) any {
	type object map[string]any
	mounts := []object{
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "nodev"}},
	}
	for _, d := range b.read {
		mounts = append(mounts, object{"destination": d, "type": "bind", "source": d, "options": []string{"rbind", "ro", "nosuid", "nodev"}})
	}
	namespaces := []object{{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}}
	linux := object{"maskedPaths": []string{"/proc/kcore", "/proc/keys"}, "readonlyPaths": []string{"/proc/sys"}}
	if uid := os.Geteuid(); uid != 0 {
		namespaces = append(namespaces, object{"type": "user"})
		linux["uidMappings"] = []object{{"containerID": 0, "hostID": uid, "size": 1}}
		linux["gidMappings"] = []object{{"containerID": 0, "hostID": os.Getegid(), "size": 1}}
	}
	linux["namespaces"] = namespaces
	none := []string{}
	return object{
		"ociVersion": "1.0.2", "hostname": "bench", "linux": linux, "mounts": mounts,
		"root": object{"path": root, "readonly": true},
		"process": object{"args": payload, "cwd": "/", "env": []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, "user": object{"uid": 0, "gid": 0}, "noNewPrivileges": true,
			"capabilities": object{"bounding": none, "effective": none, "permitted": none}},
	}
}
