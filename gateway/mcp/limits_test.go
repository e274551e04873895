package mcp

import (
	"strings"
	"testing"

	"github.com/casemate/casemate/gateway/gatewaytest"
)

// TestLimitsOfACall: what _meta takes from a call is taken, and what it cannot
// be is said by its name.
func TestLimitsOfACall(t *testing.T) {
	r, back := gatewaytest.New(t)
	c := connect(t, r, back, Options{})
	c.initialize("2025-06-18")
	for more, want := range map[string]string{
		`,"_meta":{"casemate/limits":{"timeout":"50ms"}}`:               "its time of 50ms was over",
		`,"_meta":{"casemate/limits":{"timeout":0.05,"memory":"1MiB"}}`: "its time of 50ms was over",
		`,"_meta":{"casemate/limits":{"memory":"1TiB"}}`:                "limits.memory",
		`,"_meta":{"casemate/limits":{"network":"none"}}`:               "limits.network",
		`,"_meta":{"casemate/limits":7}`:                                "limits",
	} {
		if got := c.ask(callTool(1, "run", "sleep", more)); !strings.Contains(got, want) || !strings.Contains(got, `"isError":true`) {
			t.Errorf("%s: %s", more, got)
		}
	}
	if got := c.ask(callTool(1, "run", "sleep", `,"_meta":{"Casemate/Limits":{}}`)); !strings.Contains(got, "-32602") {
		t.Errorf("another case: %s", got)
	}
}
