package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMapped(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want uint32
		ok   bool
	}{
		"everything":         {"         0          0 4294967295\n", 0x7fff0001, true},
		"a container":        {"0 100000 65536\n", 65535, true},
		"up to nobody":       {"0 100000 65535\n", 65533, true},
		"root alone":         {"0 1000 1\n", 0, false},
		"nobody alone":       {"0 1000 1\n65534 65534 1\n", 0, false},
		"two ranges":         {"0 1000 1\n1 100000 5000\n", 5000, true},
		"not a map":          {"x y z\n", 0, false},
		"beyond the largest": {"0 0 18446744073709551615\n", 0x7fff0001, true},
	} {
		file := filepath.Join(t.TempDir(), "map")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := mapped(file, 0x7fff0001); got != c.want || ok != c.ok {
			t.Errorf("%s: %d %v, want %d %v", name, got, ok, c.want, c.ok)
		}
	}
	if c := routerCredential(1000, 7); c != nil {
		t.Errorf("an ordinary user's router changes its user: %+v", c)
	}
}
