package nearest

import "testing"

func TestTo(t *testing.T) {
	names := []string{"network", "filesystem", "connect", "python", "id"}
	for s, want := range map[string]string{"netwrok": "network", "Network": "network", "conect": "connect", "pyton": "python", "xyz": "", "": "", "if": "id", "filesys": ""} {
		if got := To(s, names); got != want {
			t.Errorf("%q is nearest to %q, want %q", s, got, want)
		}
	}
}
