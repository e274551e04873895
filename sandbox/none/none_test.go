package none

import (
	"context"
	"testing"

	"github.com/casemate/casemate"
)

func TestRefusesEverything(t *testing.T) {
	var b casemate.Backend = Backend{}
	c, err := b.Probe(t.Context())
	if err != nil || c.Available || c.Lookup("user").State != "missing" {
		t.Errorf("probe says %+v %v", c, err)
	}
	for _, s := range []casemate.Spec{{}, {Tool: &casemate.Tool{Name: "t"}}} {
		sb, err := b.Start(context.Background(), s)
		if sb != nil || casemate.KindOf(err) != casemate.Unsupported {
			t.Errorf("started %v, error %v", sb, err)
		}
	}
}
