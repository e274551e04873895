package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ending is the context of what clears away.
func (b *benchPeers) ending() context.Context { return context.Background() }

// engine is docker: it needs its daemon, and an image, which is made of an empty
// root and taken away again; nothing is pulled. The folders of the payloads are
// mounted into it, read-only.
func (b *benchPeers) engine(path string, payload []string) ([]string, error) {
	if b.image == "" {
		root, err := b.folder("image")
		if err != nil {
			return nil, err
		}
		if _, err := b.tree(root); err != nil {
			return nil, err
		}
		if _, err := b.said(path, "version", "--format", "{{.Server.Version}}"); err != nil {
			return nil, fmt.Errorf("its daemon does not answer: %w", err)
		}
		tar, err := exec.LookPath("tar")
		if err != nil {
			return nil, err
		}
		archive := b.place.path("image.tar")
		if _, err := b.said(tar, "-C", root, "-cf", archive, "."); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("casemate-bench-%d", os.Getpid())
		if _, err := b.said(path, "import", archive, name); err != nil {
			return nil, err
		}
		b.image = name
		b.ends = append(b.ends, func() { b.said(path, "rmi", "--force", name) })
	}
	argv := append([]string{path, "run", "--rm", "--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp"}, b.volumes()...)
	return append(append(argv, b.image), payload...), nil
}

// rootfs is podman: it runs an empty root without an image.
func (b *benchPeers) rootfs(path string, payload []string) ([]string, error) {
	root, err := b.folder("podman")
	if err == nil {
		_, err = b.tree(root)
	}
	argv := append([]string{path, "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL"}, b.volumes()...)
	return append(append(argv, "--rootfs", root), payload...), err
}

func (b *benchPeers) volumes() []string {
	return b.each(func(d string) []string { return []string{"--volume", d + ":" + filepath.Clean(d) + ":ro"} })
}

// said runs a program and returns what it prints; it is given ten seconds.
func (b *benchPeers) said(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(b.ending(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = b.spawn.env, "/", time.Second
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("%w: %.300s", err, text)
	}
	return text, nil
}
