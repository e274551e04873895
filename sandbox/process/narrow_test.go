package process

import (
	"context"
	"testing"
	"time"

	"github.com/casemate/casemate"
)

// A sandbox of too little memory does not start, and the next one does: the
// router may narrow a grant to anything.
func TestTooLittleMemory(t *testing.T) {
	tool := &casemate.Tool{Name: "shell", Run: casemate.Run{Shell: &casemate.Shell{}}}
	b := subject(t).Open(t, tool)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	start := func(memory int64) error {
		sb, err := b.Start(ctx, casemate.Spec{Tool: tool, Grant: casemate.Grant{Tool: tool.Digest(), Memory: memory}})
		if err != nil {
			return err
		}
		return sb.Close()
	}
	for _, memory := range []int64{1, 4 << 10, 64 << 10, 1 << 20} {
		start(memory) // may be an error, of this sandbox alone
		if err := start(0); err != nil {
			t.Fatalf("after a sandbox of %d bytes: %v", memory, err)
		}
	}
}
