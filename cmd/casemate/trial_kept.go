package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate"
)

// trialKey names the very runtime that was tried, on this start of this host, by
// this build and user.
func trialKey(name, path, version string, degraded []string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	group, _ := os.ReadFile("/proc/self/cgroup") // where it cannot be read it is the same each time
	return fmt.Sprintf("%s %s %s %d %d %d %d.%d %s %s %d %s %x", name, version, path, st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec,
		bytes.TrimSpace(boot), initDigest, os.Geteuid(), strings.Join(degraded, ","), sha256.Sum256(group)), nil
}

// maxTrials is how many trials are remembered.
const maxTrials = 16

func (b *backends) trials() string { return filepath.Join(b.loaded.state, "trials.json") }

func (b *backends) recalled() map[string]casemate.Capabilities {
	m := map[string]casemate.Capabilities{}
	raw, err := head(b.trials(), 1<<20)
	if err != nil || json.Unmarshal(raw, &m) != nil || len(m) > maxTrials {
		return map[string]casemate.Capabilities{}
	}
	return m
}

// remembered is what an earlier trial found; only one that worked is kept, and a
// sandbox refuses to start all the same where it cannot have its walls.
func (b *backends) remembered(key string) (casemate.Capabilities, bool) {
	c, ok := b.recalled()[key]
	return c, ok && c.Available
}

func (b *backends) remember(key string, c casemate.Capabilities) {
	m := b.recalled()
	if len(m) >= maxTrials {
		m = map[string]casemate.Capabilities{}
	}
	m[key] = c
	if raw, err := json.Marshal(m); err == nil {
		replaceFile(b.trials(), raw) // a failure costs another trial
	}
}
