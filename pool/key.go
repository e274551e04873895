package pool

import "github.com/casemate/casemate"

// A Key is what makes parked sandboxes interchangeable. Guest is the digest of
// the tool's profile and of what runs in it: the runner, the runtime by its
// path, the mounts. What the digest does not see, such as another interpreter
// at the same path, is told by Stale.
type Key struct {
	Guest   casemate.Digest
	Backend string
	Shape   string // of MCP: what the server is told when it begins; "" elsewhere
}
