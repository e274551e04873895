package bench

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// A Machine is what a reader has to know of the one that a report is from. It
// has no name of the host, and no path.
type Machine struct {
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Arch     string   `json:"arch"`
	Memory   int64    `json:"memory_bytes"`
	Kernel   string   `json:"kernel"`
	Root     bool     `json:"root"`
	Load     string   `json:"load"`               // of a minute, before
	Degraded []string `json:"degraded,omitempty"` // limits that it does not give
	Python   string   `json:"python,omitempty"`   // its version
}

// ThisMachine reads what /proc says.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Arch: runtime.GOARCH, Root: os.Geteuid() == 0, CPU: "unknown"}
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		k, v, _ := strings.Cut(line, ":")
		if k = strings.TrimSpace(k); k == "model name" || k == "Model" {
			m.CPU = strings.TrimSpace(v)
			break
		}
	}
	for line := range strings.Lines(read("/proc/meminfo")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			m.Memory = kib << 10
		}
	}
	m.Kernel = strings.TrimSpace(read("/proc/sys/kernel/osrelease"))
	m.Load, _, _ = strings.Cut(read("/proc/loadavg"), " ")
	return m
}

func read(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}
