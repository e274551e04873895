package mcp

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casemate/casemate/gateway"
	"github.com/casemate/casemate/gateway/gatewaytest"
)

// BenchmarkCall compares a tools/call of a server that is spoken to directly
// with the same through ServeStdio and a router; both say their median.
func BenchmarkCall(b *testing.B) {
	server := odd(b)
	b.Run("direct", func(b *testing.B) {
		cmd := exec.Command(server.Command[0], server.Command[1:]...)
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() { in.Close(); cmd.Wait() }()
		benchmarkCalls(b, in, out)
	})
	b.Run("through", func(b *testing.B) {
		r, _ := gatewaytest.NewServers(b, server)
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- ServeStdio(b.Context(), inR, outW, gateway.ServerView(r, "odd"), Options{}) }()
		defer func() { inW.Close(); <-done }()
		benchmarkCalls(b, inW, outR)
	})
}

func benchmarkCalls(b *testing.B, in io.Writer, out io.Reader) {
	lines := bufio.NewReaderSize(out, 64<<10)
	ask := func(line, want string) {
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			b.Fatal(err)
		}
		got, err := lines.ReadString('\n')
		if err != nil || !strings.Contains(got, want) {
			b.Fatal(got, err)
		}
	}
	ask(initialize("2025-06-18"), "odd")
	io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	call := func(i int) {
		ask(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"odd","arguments":{"n":%d}}}`, i, i), "hologram")
	}
	call(1) // starts the server
	var took []time.Duration
	for i := 2; b.Loop(); i++ {
		begin := time.Now()
		call(i)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
}
