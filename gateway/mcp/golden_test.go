package mcp

import (
	"fmt"
	"strings"
	"testing"
)

var versions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

// exchanges are what a client of a version asks, in order.
func exchanges(version string) []string {
	m, more := "", ""
	var lines []string
	if version >= stateless {
		m = meta(version)
		more = "," + m
		lines = append(lines, `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+m+`}}`)
	}
	png := "\x89PNG"
	return append(lines,
		`{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{`+m+`}}`,
		callTool("three", "run", "print hello", more),
		callTool(4, "data", `print {"a":[1,2]}`, more),
		callTool(5, "data", `print [1,2]`, more),
		callTool(6, "run", "print two\nfile a.png image/png "+png+"\nfile b.txt text/plain words\nfile c.bin x/y bytes", more),
		callTool(7, "run", "print before\nfail boom", more),
		`{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"run","arguments":{"cod":"x"}`+more+`}}`,
		`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"run","arguments":["x"]`+more+`}}`,
		callTool(10, "nope", "print x", more),
		`{"jsonrpc":"2.0","id":11,"method":"no/such","params":{`+m+`}}`,
		`{"jsonrpc":"2.0","id":12,"method":"prompts/list","params":{`+m+`}}`,
		`{"jsonrpc":"2.0","id":13,"method":"ping","params":{`+m+`}}`,
		`{"jsonrpc":"2.0","id":14,"Method":"tools/list","params":{`+m+`}}`,
		`{"jsonrpc":"2.0","id":15,"method":"tools/list","method":"ping","params":{`+m+`}}`,
		`{"jsonrpc":"2.0","id":16,"method":`,
		`[{"jsonrpc":"2.0","id":17,"method":"ping"},{"jsonrpc":"2.0","id":18,"method":"nope"}]`,
		`[{"jsonrpc":"2.0","id":19,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}]`,
		callTool(21, "run", "print still here", more),
	)
}

func TestGoldenStdio(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			c := newClient(t, Options{Version: "1"})
			var b strings.Builder
			say := func(line string) {
				fmt.Fprintf(&b, "> %s\n< %s\n", line, scrub(c.ask(line)))
			}
			if version < stateless {
				say(initialize(version))
				c.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
			}
			for _, line := range exchanges(version) {
				say(line)
			}
			c.quiet()
			golden(t, "stdio-"+version+".txt", b.String())
		})
	}
}

func TestGoldenHTTP(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			d := newDoor(t, Options{Version: "1"})
			var b strings.Builder
			var headers []string
			session := ""
			say := func(line string, more ...string) answer {
				hs := append(append([]string{}, headers...), more...)
				a := d.post(line, hs...)
				if id := a.header.Get("Mcp-Session-Id"); id != "" {
					session = id
					a.header.Set("Mcp-Session-Id", "SESSION")
				}
				fmt.Fprintf(&b, "> %s\n< %d", line, a.status)
				for _, h := range []string{"Content-Type", "Mcp-Session-Id", "Allow"} {
					if v := a.header.Get(h); v != "" {
						fmt.Fprintf(&b, " %s: %s", h, v)
					}
				}
				fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(scrub(a.body)))
				return a
			}
			if version < stateless {
				say(initialize(version))
				headers = []string{"Mcp-Session-Id", session}
				if version >= "2025-06-18" {
					headers = append(headers, "MCP-Protocol-Version", version)
				}
				say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
			} else {
				headers = []string{"MCP-Protocol-Version", version}
			}
			for _, line := range exchanges(version) {
				var more []string
				if msgs, batch, f := parse([]byte(line)); version >= stateless && f == nil && !batch {
					more = []string{"Mcp-Method", msgs[0].method}
					if msgs[0].name != "" {
						more = append(more, "Mcp-Name", msgs[0].name)
					}
				}
				say(line, more...)
			}
			if version < stateless {
				a, err := d.do(t.Context(), "DELETE", "", headers...)
				fmt.Fprintf(&b, "> DELETE\n< %d %v\n", a.status, err)
				say(`{"jsonrpc":"2.0","id":22,"method":"ping"}`)
			}
			golden(t, "http-"+version+".txt", b.String())
		})
	}
}
