package casemate

import (
	"reflect"
	"testing"
)

func TestLabelJoin(t *testing.T) {
	everyone, alice, bob := Label{}, Label{Writers: []string{"alice"}, Readers: []string{"alice", "user"}}, Label{Writers: []string{"bob"}, Readers: []string{"bob"}}
	for _, c := range []struct{ a, b, want Label }{
		{everyone, everyone, Label{}},
		{everyone, alice, alice},
		{alice, everyone, alice},
		{alice, bob, Label{Writers: []string{"alice", "bob"}, Nobody: true}},
		{Label{Nobody: true}, everyone, Label{Nobody: true}},
	} {
		got := c.a.Join(c.b)
		if len(got.Writers) == 0 {
			got.Writers = nil
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v.Join(%+v) = %+v, want %+v", c.a, c.b, got, c.want)
		}
	}
}
