package mcp

import (
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// checkAgainstSDK compares our reading of a message with the SDK's: a message
// that was decided on must be the message that is served.
func checkAgainstSDK(t *testing.T, m *message) {
	t.Helper()
	msg, err := jsonrpc.DecodeMessage(m.raw)
	if err != nil {
		t.Fatalf("the SDK refuses %s: %v", m.raw, err)
	}
	switch msg := msg.(type) {
	case *jsonrpc.Request:
		if msg.Method != m.method || msg.IsCall() != m.request() {
			t.Fatalf("the SDK reads method %q, call %v of %s", msg.Method, msg.IsCall(), m.raw)
		}
	case *jsonrpc.Response:
		if m.method != "" || m.id == nil {
			t.Fatalf("the SDK reads a response of %s", m.raw)
		}
	}
}
