package casemate

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	for text, want := range map[string]Limits{
		`{}`: {},
		`{"memory":"64MiB","disk":4096,"output":"1KiB","cpu":0.5,"processes":3,"timeout":"2s","without":["/a","/a","/b"]}`: {64 << 20, 4096, 1024, 0.5, 3, 2 * time.Second, []string{"/a", "/b"}},
		`{"timeout":0.5,"cpu":"1"}`: {Timeout: 500 * time.Millisecond, CPU: 1},
	} {
		var l Limits
		if err := json.Unmarshal([]byte(text), &l); err != nil || !reflect.DeepEqual(l, want) {
			t.Errorf("%s: %+v %v", text, l, err)
		}
		b, err := json.Marshal(l)
		var again Limits
		if err != nil || json.Unmarshal(b, &again) != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%s: written as %s: %+v %v", text, b, again, err)
		}
		if l.Zero() != (text == `{}`) {
			t.Errorf("%s: zero", text)
		}
	}
	// Each is refused by the name of its field.
	for text, field := range map[string]string{
		`[]`: "limits", `null`: "limits", `{"memory":0}`: "memory", `{"memory":-1}`: "memory", `{"memory":null}`: "memory", `{"memory":"NaN"}`: "memory", `{"memory":"Inf"}`: "memory",
		`{"memory":"1.5B"}`: "memory", `{"cpu":0}`: "cpu", `{"cpu":"NaN"}`: "cpu", `{"processes":0}`: "processes", `{"processes":1.5}`: "processes",
		`{"timeout":0}`: "timeout", `{"timeout":"-2s"}`: "timeout", `{"without":"/a"}`: "without", `{"without":["a"]}`: "without", `{"without":null}`: "without",
		`{"Memory":1}`: "Memory", `{"network":"none"}`: "network",
	} {
		var l Limits
		if err := json.Unmarshal([]byte(text), &l); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %+v %v", text, l, err)
		}
	}
}

func FuzzLimits(f *testing.F) {
	f.Add([]byte(`{"memory":"64MiB","without":["/a"],"timeout":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l, again Limits
		if json.Unmarshal(b, &l) != nil {
			return
		}
		if l.Memory < 0 || l.Disk < 0 || l.Output < 0 || l.CPU < 0 || l.Processes < 0 || l.Timeout < 0 {
			t.Fatalf("%s: %+v", b, l)
		}
		out, err := json.Marshal(l)
		if err != nil || json.Unmarshal(out, &again) != nil || !reflect.DeepEqual(l, again) {
			t.Fatalf("%s: %s: %+v %+v", b, out, l, again)
		}
	})
}
