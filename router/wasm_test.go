package router

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/guest"
)

// A function of a module gets all arguments as one JSON object, as they were
// checked, and answers with JSON or fails.
func TestFunctionsOfModules(t *testing.T) {
	function := &casemate.Tool{Name: "f", Parameters: json.RawMessage(`{"type":"object","properties":{"b":{"type":"number"},"a":{}}}`), Run: casemate.Run{Wasm: &casemate.Wasm{Function: "f"}}}
	s, err := compile(function.Parameters)
	if err != nil {
		t.Fatal(err)
	}
	arguments := func(text string) ([]guest.Pair, error) {
		return (&tool{Tool: function, schema: s}).prepare(casemate.Call{Arguments: json.RawMessage(text)})
	}
	ps, err := arguments(`{"b": 1.50, "a": {"x": "<é>"}}`)
	if v, _ := guest.Get(ps, guest.Arguments); err != nil || len(ps) != 1 || v != `{"a":{"x":"<é>"},"b":1.50}` {
		t.Errorf("%q %v", ps, err)
	}
	for _, bad := range []string{`[]`, `{"a":1,"a":2}`, `{"b":"x"}`} {
		if _, err := arguments(bad); casemate.KindOf(err) != casemate.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}

	k := &call{Call: casemate.Call{Tool: "f"}, out: &casemate.Outcome{}, tool: &tool{Tool: function}}
	for value, want := range map[string]string{`{"sum": 7}`: `{"sum":7}`, `[1`: "", "": "", `{"a":1,"a":2}`: ""} {
		res, err := k.result(&reply{done: true, value: []byte(value)})
		if string(res.Structured) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s %v", value, res.Structured, err)
		}
	}
	command := &call{Call: casemate.Call{Tool: "c"}, out: &casemate.Outcome{}, tool: &tool{Tool: &casemate.Tool{Run: casemate.Run{Wasm: &casemate.Wasm{Result: "json"}}}}}
	if res, err := command.result(&reply{done: true, stdout: []byte("[1]\n")}); string(res.Structured) != "[1]" || err != nil {
		t.Errorf("%s %v", res.Structured, err)
	}
	if _, err := command.result(&reply{done: true, stdout: []byte("one")}); err == nil || !strings.Contains(err.Error(), "standard output") {
		t.Errorf("what is no JSON: %v", err)
	}
}
