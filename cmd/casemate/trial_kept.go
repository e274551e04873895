package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/casemate/casemate"
)

// A trial is what one came to.
type trial struct {
	Version string `json:"version"` // of the runtime
	casemate.Capabilities
}

// trialKey names what was tried (the backend, and a file), on this start of this
// host, by this build and user.
func trialKey(backend, file string, degraded []string) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	group, _ := os.ReadFile("/proc/self/cgroup") // where it cannot be read it is the same each time
	return fmt.Sprintf("%s %s %s %s %d %s %x", backend, file, bytes.TrimSpace(boot), initDigest, os.Geteuid(), strings.Join(degraded, ","), sha256.Sum256(group)), nil
}

// maxTrials is how many trials are remembered.
const maxTrials = 16

func (b *backends) trials() string { return filepath.Join(b.loaded.state, "trials.json") }

func (b *backends) recalled() map[string]trial {
	m := map[string]trial{}
	raw, err := head(b.trials(), 1<<20)
	if err != nil || json.Unmarshal(raw, &m) != nil || len(m) > maxTrials {
		return map[string]trial{}
	}
	return m
}

// remembered is what an earlier trial found; only one that worked is kept, and a
// sandbox refuses to start all the same where it cannot have its walls.
func (b *backends) remembered(key string) (trial, bool) {
	t, ok := b.recalled()[key]
	return t, ok && t.Available
}

func (b *backends) remember(key string, t trial) {
	m := b.recalled()
	if len(m) >= maxTrials {
		m = map[string]trial{}
	}
	m[key] = t
	if raw, err := json.Marshal(m); err == nil {
		replaceFile(b.trials(), raw) // a failure costs another trial
	}
}
