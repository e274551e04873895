package process

import (
	"strings"
	"testing"

	"github.com/casemate/casemate/internal/testenv"
)

// What the kernel counts for a user is bounded in each sandbox, so that one
// takes neither the user's own nor the others'.
func TestCounts(t *testing.T) { counts(t) }

func TestCountsAsUser(t *testing.T) {
	subject(t)
	testenv.AsUser(t, counts)
}

func counts(t *testing.T) {
	out := shell(t, "cd /proc/sys/user; cat max_inotify_instances max_user_namespaces; echo 999 2>/dev/null > max_inotify_instances; cat max_inotify_instances")
	if strings.Join(strings.Fields(out), " ") != "16 0 16" {
		t.Errorf("%q", out)
	}
}
