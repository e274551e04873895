package pool

import (
	"context"

	"github.com/casemate/casemate"
)

// A Key is what makes parked sandboxes interchangeable. Guest is the digest of
// the tool's profile and of what runs in it: the runner, the runtime by its
// path, the mounts. What the digest does not see, such as another interpreter
// at the same path, is told by Stale.
type Key struct {
	Guest   casemate.Digest
	Backend string
	Shape   string // of MCP: what the server is told when it begins; "" elsewhere
}

// A Kind is how the sandboxes of one key are made. It does not change once a
// pool has it.
type Kind struct {
	Key      Key
	Name     casemate.ToolName // of the tool, for errors
	Min, Max int               // parked; a Max of 0 is no bound of its own
	Bytes    int64             // that one holds while it is parked, as an estimate
	Early    bool              // one may be parked before the first claim
	NoPark   bool              // none is ever parked

	// Start makes one sandbox, and has checked that its guest waits. It blocks,
	// bounds its own time, and ends when ctx is done.
	Start func(context.Context) (casemate.Sandbox, error)

	// Park makes what Start returned ready to wait, and returns what is to be
	// claimed. It blocks as Start does; on an error it has closed the sandbox.
	// Nil: it waits as it is. What a claim waits for is not parked before.
	Park func(context.Context, casemate.Sandbox) (casemate.Sandbox, error)
}
