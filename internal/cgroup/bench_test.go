package cgroup

import (
	"os/exec"
	"strconv"
	"testing"
)

func BenchmarkGroup(b *testing.B) {
	h := Probe()
	if state, why, _ := h.Control(Memory); state != "on" {
		b.Skip(why)
	}
	b.Run("create-remove", func(b *testing.B) {
		for i := range b.N {
			g, err := h.Create("bench"+strconv.Itoa(i), Limits{Memory: 32 << 20, MilliCPU: 1000, Processes: 64}, never)
			if err != nil {
				b.Fatal(err)
			}
			if err := g.Remove(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("add", func(b *testing.B) {
		g, err := h.Create("bench", Limits{Memory: 32 << 20, MilliCPU: 1000, Processes: 64}, never)
		if err != nil {
			b.Fatal(err)
		}
		defer g.Remove()
		for range b.N {
			b.StopTimer()
			c := exec.Command("/bin/sleep", "5")
			c.Start()
			b.StartTimer()
			if err := g.Add(c.Process.Pid); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			c.Process.Kill()
			c.Wait()
			b.StartTimer()
		}
	})
}
