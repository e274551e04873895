package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/pool"
)

func TestResult(t *testing.T) {
	w := newWorld(t, Config{}, a("good"), a("good", called("json"), func(t *casemate.Tool) {
		t.Run = casemate.Run{Exec: &casemate.Exec{Command: []string{"/bin/x", "{code}"}, Result: "json"}}
	}))
	o := w.code("good", "", "print out\nvalue 42\ncomplain err")
	if o.Error != nil || o.Result.IsError || textOf(o) != "out\n42\n[stderr]\nerr" {
		t.Errorf("%+v %q", o.Error, textOf(o))
	}
	if o.Backend != "bare" || o.Decision.Effect != "allow" || o.Enforced == nil || o.Usage.WallMS <= 0 || o.Usage.ClaimMS <= 0 || o.Usage.CPUMS <= 0 {
		t.Errorf("the outcome lacks parts: %+v %+v", o, o.Usage)
	}
	if !reflect.DeepEqual(o.Label, &casemate.Label{Writers: []string{"tool:good"}}) {
		t.Errorf("label %+v", o.Label)
	}
	o = w.code("good", "", "print out\nfail ValueError: boom")
	wants(t, o, casemate.ToolFailed, "good: ", "ValueError: boom")
	if !o.Result.IsError || !strings.Contains(textOf(o), "line 3") {
		t.Errorf("%+v", o.Result)
	}
	o = w.code("good", "", "print out\nexit 7")
	wants(t, o, casemate.ToolFailed, "exit status 7")
	if textOf(o) != "out\n" || !o.Result.IsError {
		t.Errorf("%+v", o.Result)
	}
	if got := w.must("good", "", `bytes "a\xff\xfeb"`); got != "a\uFFFDb" {
		t.Errorf("invalid UTF-8 became %q", got)
	}
	if c := w.code("good", "", "set a b").Result.Content; c == nil || len(c) != 0 {
		t.Errorf("nothing became %+v", c)
	}
	o = w.code("good", "", "file plot.png image/png PNG\nfile ../../a b.txt text/plain x\nfile c text/plain;evil y")
	want := []casemate.Content{
		{Type: "image", Data: []byte("PNG"), MimeType: "image/png"},
		{Type: "resource", URI: "file:///out/../../a", MimeType: "application/octet-stream", Data: []byte("text/plain x")},
		{Type: "resource", URI: "file:///out/c", MimeType: "application/octet-stream", Data: []byte("y")},
	}
	if !reflect.DeepEqual(o.Result.Content, want) {
		t.Errorf("files %+v", o.Result.Content)
	}
	o = w.code("json", "", `print {"b": 1e2, "a": "<"}`)
	if o.Error != nil || string(o.Result.Structured) != `{"a":"<","b":1e2}` || textOf(o) == "" {
		t.Errorf("structured %s %+v", o.Result.Structured, o.Error)
	}
	for _, bad := range []string{"print {}{}", "print x", "set a b", `print {"a":1,"a":2}`} {
		wants(t, w.code("json", "", bad), casemate.ToolFailed, "result: json")
	}
}

func TestArgumentsReachTheGuestAsTheyAre(t *testing.T) {
	w := newWorld(t, Config{}, a("good", func(t *casemate.Tool) { t.Parameters = []byte(`{"type":"object"}`) }))
	o := w.Call(context.Background(), casemate.Call{Tool: "good", Arguments: []byte(`{"code":"args","n":1.50,"s":"a\u0041<","o":{"z":[true,null],"a":"<"}}`)})
	if got := textOf(o); got != `code=args;n=1.50;o={"a":"<","z":[true,null]};s=aA<;` {
		t.Errorf("%s %+v", got, o.Error)
	}
}

// A hostile guest costs its own call, says why, and leaves nothing; a
// neighbour works on meanwhile.
func TestHostileGuest(t *testing.T) {
	for _, c := range []struct {
		how   string
		kind  casemate.Kind
		words []string
		text  string
	}{
		{"garbage", casemate.ToolFailed, []string{"protocol"}, ""},
		{"flood", casemate.Killed, []string{"output", "64KiB"}, "yyy"},
		{"empties", casemate.ToolFailed, []string{"protocol", "empty"}, ""},
		{"stall", casemate.Timeout, []string{"300ms"}, "so far"},
		{"exits", casemate.ToolFailed, []string{"status 3"}, ""},
		{"killed", casemate.ToolFailed, []string{"ended with signal 9"}, ""},
		{"memory", casemate.Killed, []string{"memory 256MiB"}, ""},
		{"hangs up", casemate.ToolFailed, []string{"closed its pipe"}, ""},
		{"huge", casemate.ToolFailed, []string{"protocol", "longer"}, ""},
		{"huge file", casemate.Killed, []string{"output", "64KiB"}, ""},
		{"other call", casemate.ToolFailed, []string{"protocol", "another call"}, ""},
		{"half", casemate.ToolFailed, []string{"status 0"}, ""},
		{"early", casemate.ToolFailed, []string{"protocol"}, ""},
		{"stillborn", casemate.Internal, []string{"status 5"}, ""},
		{"version", casemate.ToolFailed, []string{"version"}, ""},
	} {
		t.Run(c.how, func(t *testing.T) {
			w := newWorld(t, Config{}, a(c.how, hasty), a(c.how, hasty, inSession, called("session")), a("good"))
			var all sync.WaitGroup
			all.Go(func() {
				for i := range 3 {
					if got := w.must("good", "", fmt.Sprint("print ", i)); got != fmt.Sprintf("%d\n", i) {
						t.Errorf("the neighbour said %q", got)
					}
				}
			})
			s := w.NewSession()
			for range 2 {
				for _, o := range []*casemate.Outcome{w.code(a(c.how).Name, "", "x"), w.code("session", s, "x")} {
					wants(t, o, c.kind, c.words...)
					if !strings.HasPrefix(textOf(o), c.text) || len(textOf(o)) > 64<<10 {
						t.Errorf("%d bytes of text, %.20q", len(textOf(o)), textOf(o))
					}
					if o.Result != nil && !o.Result.IsError {
						t.Error("the result is not an error")
					}
				}
			}
			all.Wait()
			if n := w.b.alive(); n != 0 {
				t.Errorf("%d guests are alive", n)
			}
		})
	}
}

func TestAnswersTwice(t *testing.T) {
	w := newWorld(t, Config{}, a("twice"), a("twice", inSession, called("session")))
	for range 3 {
		if got := w.must("twice", "", "x"); got != "once" {
			t.Errorf("said %q", got)
		}
	}
	s := w.NewSession()
	if got := w.must("session", s, "x"); got != "once" {
		t.Errorf("said %q", got)
	}
	time.Sleep(50 * time.Millisecond)
	wants(t, w.code("session", s, "x"), casemate.ToolFailed, "protocol", "state of its session is lost")
	if got := w.must("session", s, "x"); got != "once" {
		t.Errorf("afresh it said %q", got)
	}
}

func TestCallScopeForgets(t *testing.T) {
	w := newWorld(t, Config{Pool: pool.Limits{Max: 2}}, a("good"))
	s := w.NewSession()
	w.must("good", s, "set x 1")
	if got := w.must("good", s, "get x"); got != "<>" {
		t.Errorf("the next call saw %q", got)
	}
}

func TestCancelKillsTheSandbox(t *testing.T) {
	w := newWorld(t, Config{}, a("stall"))
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	begin := time.Now()
	o := w.Call(ctx, casemate.Call{Tool: "stall", Arguments: []byte(`{"code":""}`)})
	wants(t, o, casemate.Cancelled, "went away")
	if d := time.Since(begin); d > 2*time.Second || w.b.alive() != 0 {
		t.Errorf("after %s %d guests are alive", d, w.b.alive())
	}
}

func TestBadArguments(t *testing.T) {
	props := func(s string) func(*casemate.Tool) {
		return func(t *casemate.Tool) { t.Parameters = []byte(s) }
	}
	w := newWorld(t, Config{}, a("python"),
		a("open", props(`{"type":"object","properties":{"Method":{"type":"string"},"params":{}}}`)),
		a("num", props(`{"type":"object","properties":{"n":{"type":"number","maximum":10,"multipleOf":0.5}}}`)),
		a("deep", props(`{"type":"object","properties":{"a":{"type":"array","items":{"type":"object","required":["k"],"properties":{"e":{"enum":["x","y"]},"p":{"pattern":"^a+$"},"u":{"format":"uri"}}}}}}`)))
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for _, c := range []struct {
		tool  casemate.ToolName
		args  string
		words []string
	}{
		{"pyton", `{}`, []string{`"pyton"`, "nearest is python"}},
		{"zzzzzzzzzzzz", `{}`, []string{"no tool"}},
		{"\x1b[2J", `{}`, []string{`\x1b`}},
		{"python", `{}`, []string{"code: missing"}},
		{"python", `{"code":5}`, []string{"code: want string, got number"}},
		{"python", `{"code":"1","cwd":"/"}`, []string{"cwd: not allowed"}},
		{"python", `{"code":"1","Code":"2"}`, []string{"only by case"}},
		{"python", `{"code":"1","code":"2"}`, []string{"stands twice"}},
		{"python", ``, []string{"ends"}},
		{"python", `[]`, []string{"not a JSON object"}},
		{"python", `{"code":"1"} x`, []string{"follows"}},
		{"python", `{"code":"1"`, []string{"ends"}},
		{"python", `{'code':"1"}`, []string{"a key"}},
		{"python", "{\"code\":\"\xff\"}", []string{"UTF-8"}},
		{"python", "{\"code\":\"\x01\"}", []string{"control byte"}},
		{"python", `{"code":"\ud800"}`, []string{"surrogate"}},
		{"python", `{"code":"\udc00\ud800"}`, []string{"surrogate"}},
		{"python", `{"code":"` + strings.Repeat("x", 8<<20) + `"}`, []string{"8 MiB"}},
		{"open", `{"Method":"a","method":"b"}`, []string{"only by case"}},
		{"open", `{"method":"b"}`, []string{`only by case from "Method"`}},
		{"open", `{"paramſ":1}`, []string{`only by case from "params"`}},
		{"open", `{"x":` + deep + `}`, []string{"deeper than 64"}},
		{"open", `{"` + strings.Repeat("k", 5000) + `":1}`, []string{"key is longer"}},
		{"num", `{"n":1e10000000}`, []string{"exponent"}},
		{"num", `{"n":1e-10000000}`, []string{"exponent"}},
		{"num", `{"n":1e99999999999999999999}`, []string{"exponent"}},
		{"num", `{"n":` + strings.Repeat("1", 65) + `}`, []string{"64 digits"}},
		{"num", `{"n":01}`, []string{"number"}},
		{"num", `{"n":11}`, []string{"n: ", "maximum"}},
		{"num", `{"n":0.3}`, []string{"n: ", "multiple"}},
		{"num", `{"n":NaN}`, []string{"a value"}},
		{"deep", `{"a":[{"k":1},{}]}`, []string{"a/1/k: missing"}},
		{"deep", `{"a":[{"k":1,"e":"z"}]}`, []string{`a/0/e: want one of "x", "y"`}},
		{"deep", `{"a":[{"k":1,"p":"b"}]}`, []string{`a/0/p: `, `^a+$`}},
		{"deep", `{"a":[{"k":1,"u":"not a uri"}]}`, []string{`a/0/u: `, `uri`}},
	} {
		o := w.Call(context.Background(), casemate.Call{Tool: c.tool, Arguments: []byte(c.args)})
		wants(t, o, casemate.Invalid, c.words...)
		if o.Error != nil && o.Error.Fix == "" {
			t.Errorf("%s: no fix", o.Error.Message)
		}
		if y := w.Why(context.Background(), casemate.Call{Tool: c.tool, Arguments: []byte(c.args)}); !reflect.DeepEqual(y.Error, o.Error) {
			t.Errorf("why says %+v, the call %+v", y.Error, o.Error)
		}
	}
	if n := w.b.count(); n != 0 {
		t.Errorf("%d guests were started", n)
	}
	if got := w.must("python", "", "print ok"); got != "ok\n" {
		t.Error(got)
	}
}

func TestArgumentsAreNotOptions(t *testing.T) {
	cmd := func(c ...string) *casemate.Tool {
		return &casemate.Tool{Run: casemate.Run{Exec: &casemate.Exec{Command: c, Stdin: "{in}"}}, Roles: map[string]casemate.Role{"flag": casemate.RoleOption, "text": casemate.RoleContent}}
	}
	for _, c := range []struct {
		tool *casemate.Tool
		args map[string]any
		ok   bool
	}{
		{cmd("/bin/echo", "{text}"), map[string]any{"text": "-n"}, false},
		{cmd("/bin/echo", "{text}"), map[string]any{"text": "-"}, false},
		{cmd("/bin/echo", "{text}"), map[string]any{"text": json.Number("-5")}, false},
		{cmd("/bin/echo", "{text}"), map[string]any{"text": " -n"}, true},
		{cmd("/bin/echo", "{text}"), map[string]any{"text": "a"}, true},
		{cmd("/bin/echo", "{text}"), map[string]any{}, true},
		{cmd("/bin/echo", "{text}", "--"), map[string]any{"text": "-n"}, false},
		{cmd("/bin/echo", "--", "{text}"), map[string]any{"text": "-n"}, true},
		{cmd("/bin/echo", "{dashes}", "{text}"), map[string]any{"dashes": "--", "text": "-n"}, false},
		{cmd("/bin/echo", "{flag}"), map[string]any{"flag": "-n"}, true},
		{cmd("/bin/echo", "{text}"), map[string]any{"text": "a\x00b"}, false},
		{cmd("/bin/echo", "--", "{text}"), map[string]any{"text": "a\x00b"}, false},
		{&casemate.Tool{Run: casemate.Run{Wasm: &casemate.Wasm{Args: []string{"{text}"}}}}, map[string]any{"text": "-n"}, false},
		{&casemate.Tool{Run: casemate.Run{Wasm: &casemate.Wasm{Args: []string{"--", "{text}"}}}}, map[string]any{"text": "-n"}, true},
		{&casemate.Tool{Run: casemate.Run{Wasm: &casemate.Wasm{Args: []string{"--", "{text}"}}}}, map[string]any{"text": "a\x00b"}, false},
		{cmd("/bin/cat"), map[string]any{"in": "-n\x00"}, true},
		{&casemate.Tool{Run: casemate.Run{Shell: &casemate.Shell{}}}, map[string]any{"command": "a\x00"}, false},
		{&casemate.Tool{Run: casemate.Run{Shell: &casemate.Shell{}}}, map[string]any{"command": "-n"}, true},
	} {
		ps, err := pairsOf(c.args)
		if err != nil {
			t.Fatal(err)
		}
		if got := checkArgv(c.tool, ps); (got == nil) != c.ok {
			t.Errorf("%v %v: %v", c.tool.Run.Exec, c.args, got)
		}
	}
	w := newWorld(t, Config{}, a("good", func(t *casemate.Tool) { t.Run = cmd("/bin/echo", "{code}").Run }))
	wants(t, w.code("good", "", "-n"), casemate.Invalid, `"code"`, "option")
	if w.b.count() != 0 {
		t.Error("it was started")
	}
}

func TestSchemaRef(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.json")
	os.WriteFile(secret, []byte(`{"type":"CANARY"}`), 0o600)
	for _, s := range []string{
		`{"$ref":"file://` + secret + `"}`,
		`{"properties":{"a":{"$ref":"file://` + secret + `#/type"}}}`,
		`{"$schema":"file://` + secret + `"}`,
		`{"$id":"file:///","$ref":"` + secret[1:] + `"}`,
		`{"$ref":"http://127.0.0.1:1/x"}`, `{"$ref":"other.json"}`,
		`{"$dynamicRef":"#x","$defs":{"a":{"$dynamicAnchor":"x"}}}`, `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`,
		`{"type":"nonsense"}`, `{"maximum":1e10000000}`, `{"pattern":"("}`, `[]`, `true`, ``, `{"a":1,"a":2}`, `{"x":"` + strings.Repeat("x", maxSchema) + `"}`,
	} {
		r, err := New(Config{Recorder: &kept{}, Tools: []*casemate.Tool{a("good", func(t *casemate.Tool) { t.Parameters = []byte(s) })}})
		if err == nil {
			r.Shutdown(context.Background())
			t.Errorf("%.80s: compiled", s)
			continue
		}
		if casemate.KindOf(err) != casemate.Invalid || strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), "mem:") {
			t.Errorf("%.80s: %v", s, err)
		}
	}
}

// A schema that would take for ever is cut off, and costs other calls nothing.
func TestSchemaBomb(t *testing.T) {
	node := `{"anyOf":[{"properties":{"x":{"$ref":"#/$defs/n"}},"required":["no"]},{"properties":{"x":{"$ref":"#/$defs/n"}},"required":["no"]}]}`
	quiet := `{"properties":{"x":{"$ref":"#/$defs/n"}},"patternProperties":{"x":{"$ref":"#/$defs/n"},"^x":{"$ref":"#/$defs/n"}}}`
	for name, s := range map[string]string{
		"anyOf":    `{"$ref":"#/$defs/n","$defs":{"n":` + node + `}}`,
		"not":      `{"not":{"$ref":"#/$defs/n"},"$defs":{"n":` + quiet + `}}`,
		"format":   `{"not":{"$ref":"#/$defs/n"},"$defs":{"n":` + strings.Replace(quiet, "{", `{"format":"uri",`, 1) + `}}`,
		"patterns": `{"patternProperties":{"":{"pattern":"(a?){900}a{900}b"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{}, a("good"), a("bomb", func(t *casemate.Tool) { t.Parameters = []byte(s) }))
			args := strings.Repeat(`{"x":`, 60) + `1` + strings.Repeat(`}`, 60)
			if name == "patterns" {
				args = `{"x":"` + strings.Repeat("a", 1<<20) + `"}`
			}
			begin := time.Now()
			o := w.Call(context.Background(), casemate.Call{Tool: "bomb", Arguments: []byte(args)})
			wants(t, o, casemate.Invalid, map[bool]string{true: "too long for the pattern", false: "takes longer"}[name == "patterns"])
			if d := time.Since(begin); d > 4*maxValidation {
				t.Errorf("took %s", d)
			}
			w.must("good", "", "print ok")
		})
	}
}

func TestRefusedToolsAreListed(t *testing.T) {
	why := &casemate.Error{Op: "load", Tool: "heavy", Kind: casemate.Unsupported, Err: errors.New("memory needs a cgroup"), Fix: "delegate one"}
	strong := a("good", called("strong"), func(t *casemate.Tool) { t.Security.Assurance = casemate.Strong })
	other := a("good", called("other"), func(t *casemate.Tool) { t.Security.Isolation = "microvm" })
	w := newWorld(t, Config{Refused: map[casemate.ToolName]*casemate.Error{"heavy": why}}, a("good", called("heavy")), strong, other, a("good"))
	var names []string
	for _, x := range w.Tools() {
		names = append(names, string(x.Name))
	}
	if !reflect.DeepEqual(names, []string{"good", "heavy", "other", "strong"}) {
		t.Errorf("listed %v", names)
	}
	wants(t, w.code("heavy", "", "x"), casemate.Unsupported, "cgroup")
	wants(t, w.code("strong", "", "x"), casemate.Unsupported, "strong")
	wants(t, w.code("other", "", "x"), casemate.Unsupported, "microvm")
	if w.b.count() != 0 {
		t.Error("something was started")
	}
	if y := w.Why(context.Background(), casemate.Call{Tool: "heavy"}); y.Error == nil || y.Error.Fix != "delegate one" || y.Decision.Effect != "deny" {
		t.Errorf("%+v", y)
	}
	if y := w.Why(context.Background(), casemate.Call{Tool: "good"}); y.Error != nil || y.Decision.Effect != "allow" || y.Backend != "bare" || len(y.Controls) != 1 || y.Security.Timeout == 0 {
		t.Errorf("%+v", y)
	}
}

func TestNoBackendRefuses(t *testing.T) {
	w := newWorld(t, Config{Backends: []casemate.Backend{}}, a("good"))
	wants(t, w.code("good", "", "x"), casemate.Unsupported, "no backend")
	if _, err := New(Config{}); casemate.KindOf(err) != casemate.Invalid {
		t.Errorf("without a recorder: %v", err)
	}
}

func TestRates(t *testing.T) {
	clock := struct {
		sync.Mutex
		time.Time
	}{Time: time.Now()}
	pass := func(d time.Duration) { clock.Lock(); clock.Time = clock.Add(d); clock.Unlock() }
	now := func() time.Time { clock.Lock(); defer clock.Unlock(); return clock.Time }
	rated := func(r casemate.Rate) func(*casemate.Tool) {
		return func(t *casemate.Tool) { t.Security.Rate = r }
	}
	tools := []*casemate.Tool{a("good", called("minute"), rated(casemate.Rate{PerMinute: 2})),
		a("good", called("day"), rated(casemate.Rate{PerDay: 2})), a("good", called("session"), rated(casemate.Rate{PerSession: 2}))}
	w := newWorld(t, Config{Now: now}, tools...)
	s := w.NewSession()
	for _, c := range []struct {
		tool casemate.ToolName
		kind casemate.Kind
		word string
		wait time.Duration
	}{{"minute", casemate.Busy, "2 calls a minute", time.Minute}, {"day", casemate.Busy, "2 calls a day", 24 * time.Hour}, {"session", casemate.Denied, "2 calls a session", 0}} {
		for range 5 {
			if y := w.Why(context.Background(), casemate.Call{Tool: c.tool, Session: s, Arguments: []byte(`{"code":""}`)}); y.Error != nil {
				t.Fatalf("%s: a dry run was counted: %+v", c.tool, y.Error)
			}
		}
		w.must(c.tool, s, "")
		pass(time.Second)
		w.must(c.tool, s, "")
		o := w.code(c.tool, s, "")
		wants(t, o, c.kind, c.word)
		if o.Decision == nil || o.Decision.Effect != "deny" || !strings.Contains(o.Decision.Reasons[0], c.word) {
			t.Errorf("decision %+v", o.Decision)
		}
		if y := w.Why(context.Background(), casemate.Call{Tool: c.tool, Session: s, Arguments: []byte(`{"code":""}`)}); y.Error == nil || y.Error.Message != o.Error.Message {
			t.Errorf("why says %+v, the call %+v", y.Error, o.Error)
		}
		if err := w.Reload(tools, nil); err != nil {
			t.Fatal(err)
		}
		wants(t, w.code(c.tool, s, ""), c.kind, c.word) // a reload forgives nothing
		if c.wait == 0 {
			w.must(c.tool, w.NewSession(), "")
			continue
		}
		pass(c.wait - time.Second - time.Millisecond)
		wants(t, w.code(c.tool, s, ""), c.kind, c.word)
		pass(time.Millisecond)
		w.must(c.tool, s, "")
		wants(t, w.code(c.tool, s, ""), c.kind, c.word)
	}
}

func TestBusy(t *testing.T) {
	w := newWorld(t, Config{Concurrency: 4, PerTool: 1}, a("good"), a("good", called("other")))
	var mu sync.Mutex
	ok, busy := 0, 0
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			o := w.code("good", "", "sleep 50ms\nprint x")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case o.Error == nil && textOf(o) == "x\n":
				ok++
			case o.Error != nil && o.Error.Kind == casemate.Busy && strings.Contains(o.Error.Message, "which is the limit"):
				busy++
			default:
				t.Errorf("%+v", o.Error)
			}
		})
	}
	all.Wait()
	if ok < 1 || ok > 8 || ok+busy != 20 || busy == 0 {
		t.Errorf("%d ok, %d busy", ok, busy)
	}
	w.must("other", "", "")
}

func TestBoundsOnCalls(t *testing.T) {
	w := newWorld(t, Config{Concurrency: 3, PerTool: 1}, a("stall"), a("good"))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { w.code("stall", "", "") })
	}
	until(t, "four are inside, one runs", func() bool { return len(w.Status().Calls) == 4 && w.b.alive() == 1 })
	time.Sleep(50 * time.Millisecond)
	if n := w.b.alive(); n != 1 {
		t.Errorf("%d run at once", n)
	}
	wants(t, w.code("stall", "", ""), casemate.Busy, "stall: 4 calls of it")
	w.must("good", "", "") // another has its own slots
	all.Go(func() { w.code("good", "", "sleep 5s") })
	all.Go(func() { w.code("good", "", "sleep 5s") })
	until(t, "six are inside", func() bool { return len(w.Status().Calls) == 6 })
	wants(t, w.code("good", "", ""), casemate.Busy, "6 calls run or wait")
	if y := w.Why(context.Background(), casemate.Call{Tool: "good"}); y.Error == nil || y.Error.Kind != casemate.Busy {
		t.Errorf("why: %+v", y.Error)
	}
	w.StopAll()
	all.Wait()
}

func TestTwentyAtOnceWait(t *testing.T) {
	w := newWorld(t, Config{Pool: pool.Limits{Max: 4}}, a("good"))
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if got := w.code("good", "", fmt.Sprint("print ", i)); textOf(got) != fmt.Sprintf("%d\n", i) {
				t.Errorf("%d: %q %+v", i, textOf(got), got.Error)
			}
		})
	}
	all.Wait()
}

func TestStop(t *testing.T) {
	w := newWorld(t, Config{}, a("stall"), a("good", inSession))
	s1, s2 := w.NewSession(), w.NewSession()
	w.must("good", s1, "set x 1")
	var all sync.WaitGroup
	for _, s := range []casemate.SessionID{s1, s1, s2, ""} {
		all.Go(func() { wants(t, w.code("stall", s, ""), casemate.Cancelled, "operator") })
	}
	until(t, "four calls run", func() bool { return len(w.Status().Calls) == 4 && w.b.alive() == 5 })
	if n := w.Stop(s1); n != 3 { // two calls, and the guest that is idle
		t.Errorf("stopped %d", n)
	}
	until(t, "two are over", func() bool { return len(w.Status().Calls) == 2 })
	if n := w.StopAll(); n != 2 {
		t.Errorf("stopped %d", n)
	}
	all.Wait()
	until(t, "none is alive", func() bool { return w.b.alive() == 0 }) // one that had not begun a call may be behind
	wants(t, w.code("good", s1, "get x"), casemate.Gone, "lost: stopped by the operator")
	if got := w.must("good", s1, "get x"); got != "<>" {
		t.Error(got)
	}
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestShutdown(t *testing.T) {
	w := newWorld(t, Config{Pool: pool.Limits{Max: 4}}, a("good"), a("stall"))
	var all sync.WaitGroup
	all.Go(func() {
		if o := w.code("good", "", "sleep 300ms\nprint done"); textOf(o) != "done\n" {
			t.Errorf("a call in flight: %+v", o.Error)
		}
	})
	all.Go(func() { wants(t, w.code("stall", "", ""), casemate.Cancelled, "shuts down") })
	until(t, "both run", func() bool { return len(w.Status().Calls) == 2 })
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	if err := w.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	all.Wait()
	wants(t, w.code("good", "", ""), casemate.Busy, "shuts down")
	if n := w.b.alive(); n != 0 {
		t.Errorf("%d guests are alive", n)
	}
}

func TestReload(t *testing.T) {
	w := newWorld(t, Config{Pool: pool.Limits{Max: 8}}, a("good"), a("good", called("kept"), inSession), a("good", called("state"), inSession))
	s := w.NewSession()
	w.must("kept", s, "set x 1")
	w.must("state", s, "set x 1")
	changed := w.Changed()
	var all sync.WaitGroup
	all.Go(func() {
		if o := w.code("good", "", "sleep 300ms\nprint old"); textOf(o) != "old\n" {
			t.Errorf("the call in flight: %+v", o.Error)
		}
	})
	until(t, "it runs", func() bool { return len(w.Status().Calls) == 1 })
	if err := w.Reload([]*casemate.Tool{a("good"), a("good")}, nil); casemate.KindOf(err) != casemate.Invalid {
		t.Errorf("two of a name: %v", err)
	}
	if err := w.Reload([]*casemate.Tool{a("good", func(t *casemate.Tool) { t.Parameters = []byte(`{"$ref":"file:///x"}`) })}, nil); err == nil {
		t.Error("a bad schema was taken")
	}
	select {
	case <-changed:
		t.Fatal("a failed reload changed something")
	default:
	}
	err := w.Reload([]*casemate.Tool{a("good", called("new")), a("good", called("kept"), inSession), a("good", called("state"), inSession, hasty)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("Changed is not closed")
	}
	all.Wait()
	wants(t, w.code("good", "", ""), casemate.Invalid, "no tool")
	w.must("new", "", "")
	if got := w.must("kept", s, "get x"); got != "<1>" {
		t.Errorf("an unchanged tool lost its state: %q", got)
	}
	wants(t, w.code("state", s, "get x"), casemate.Gone, "lost", "changed")
	if got := w.must("state", s, "get x"); got != "<>" {
		t.Error(got)
	}
	until(t, "all are parked", func() bool {
		return !slices.ContainsFunc(w.Status().Pools, func(p PoolStatus) bool { return p.Parked != 1 })
	})
	for _, p := range w.Status().Pools {
		if p.Parked != 1 || len(p.ParkedPids) != 1 || p.Tool == "good" {
			t.Errorf("%+v", p)
		}
	}
}

func TestReloadWhileASessionIsServed(t *testing.T) {
	w := newWorld(t, Config{}, a("good", inSession))
	s := w.NewSession()
	w.must("good", s, "set x 1")
	var all sync.WaitGroup
	all.Go(func() {
		if got := textOf(w.code("good", s, "sleep 300ms\nget x")); got != "<1>" {
			t.Errorf("the call in flight: %q", got)
		}
	})
	until(t, "it runs", func() bool { return len(w.Status().Calls) == 1 })
	if err := w.Reload([]*casemate.Tool{a("good", inSession, hasty)}, nil); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	wants(t, w.code("good", s, "get x"), casemate.Gone, "lost", "changed")
	if got := w.must("good", s, "get x"); got != "<>" {
		t.Error(got)
	}
}

// A parked guest that somebody kills costs no call.
func TestParkedGuestsKilled(t *testing.T) {
	w := newWorld(t, Config{Pool: pool.Limits{Max: 4}}, a("good"))
	for i := range 10 {
		until(t, "one is parked", func() bool { return w.Status().Pools[0].Parked > 0 })
		pid := w.Status().Pools[0].ParkedPids[0]
		syscall.Kill(pid, syscall.SIGKILL)
		if i%2 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		if got := w.must("good", "", "pid"); got == strconv.Itoa(pid) {
			t.Error("the dead answered")
		}
	}
}

func TestRecords(t *testing.T) {
	w := newWorld(t, Config{}, a("good"))
	o := w.code("good", "", "print 1")
	rs := w.k.of(o.Call)
	if len(rs) != 2 || rs[0].Event != "intent" || rs[1].Event != "outcome" {
		t.Fatalf("%+v", rs)
	}
	if r := rs[0]; r.Args == "" || r.Digest == "" || r.Decision.Effect != "allow" || r.Backend != "bare" || r.Enforced != nil {
		t.Errorf("intent %+v", r)
	}
	if r := rs[1]; r.Enforced == nil || r.Usage == nil || r.Output == "" || r.Error != nil || r.Label == nil || r.Args != rs[0].Args {
		t.Errorf("outcome %+v", r)
	}
	o = w.code("good", "", "exit 1")
	if rs := w.k.of(o.Call); len(rs) != 2 || rs[1].Error == nil || rs[1].Error.Kind != casemate.ToolFailed {
		t.Errorf("%+v", rs)
	}
	o = w.Call(context.Background(), casemate.Call{Tool: "good", Arguments: []byte(`{}`)})
	if rs := w.k.of(o.Call); len(rs) != 1 || rs[0].Event != "outcome" || rs[0].Error.Kind != casemate.Invalid {
		t.Errorf("%+v", rs)
	}

	w.k.refuse = "intent"
	n := w.b.count()
	wants(t, w.code("good", "", "print 1"), casemate.Internal, "disk full", "does not run")
	if w.b.count() != n {
		t.Error("a call without its intent ran")
	}
	w.k.refuse = "outcome"
	if o := w.code("good", "", "print 1"); o.Result != nil {
		t.Error("a result without its record was handed out")
	} else {
		wants(t, o, casemate.Internal, "withheld")
	}
}

func TestReceiptFits(t *testing.T) {
	var many []casemate.Change
	for i := range 10_000 {
		many = append(many, casemate.Change{Path: fmt.Sprintf("/work/%d/%s", i, strings.Repeat("\x01", 200)), Did: "created"})
	}
	rc := casemate.Receipt{Changes: many}
	if err := fit(&rc); err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(rc)
	last := rc.Changes[len(rc.Changes)-1]
	if len(b) > maxReceipt || last.Did != "omitted" || last.Why != fmt.Sprintf("%d more changes are not in this record", 10_000-len(rc.Changes)+1) {
		t.Errorf("%d bytes, %+v", len(b), last)
	}
	if fit(&casemate.Receipt{Label: &casemate.Label{Writers: []string{strings.Repeat("x", maxReceipt)}}}) == nil {
		t.Error("a long record fits")
	}
}

func TestPanicIsInternal(t *testing.T) {
	w := newWorld(t, Config{}, a("good"))
	w.k.panics = true
	if o := w.code("good", "", "print 1"); o.Error == nil || o.Error.Kind != casemate.Internal || o.Result != nil {
		t.Errorf("%+v", o)
	}
	w.k.panics = false
	w.b.panics = true
	wants(t, w.code("good", "", "print 1"), casemate.Internal)
	w.b.panics = false
	w.must("good", "", "print 1")
}

func TestCommit(t *testing.T) {
	host := t.TempDir()
	grant := func(t *casemate.Tool) {
		t.Security.Filesystem = []casemate.Mount{{Path: host, At: "/work", Access: casemate.Write}}
	}
	w := newWorld(t, Config{}, a("good", grant), a("good", called("hasty"), grant, hasty), a("good", called("seat"), grant, inSession), a("good", called("small"), grant, func(t *casemate.Tool) { t.Security.Output = 10 }))
	has := func(name string) bool { _, err := os.Stat(filepath.Join(host, name)); return err == nil }
	o := w.code("good", "", "write a x\nwrite .bashrc evil\nprint ok")
	if !has("a") || has(".bashrc") || len(o.Changes) != 2 || o.Error != nil {
		t.Errorf("%+v %+v", o.Changes, o.Error)
	}
	if !strings.Contains(textOf(o), `not carried out: "/work/.bashrc" (held: a protected name); see casemate diff `+string(o.Call)) {
		t.Errorf("the planner reads %q", textOf(o))
	}
	if rs := w.k.of(o.Call); len(rs[1].Changes) != 2 {
		t.Errorf("recorded %+v", rs[1].Changes)
	}
	w.code("good", "", "write failed x\nexit 1")
	if !has("failed") {
		t.Error("a tool that failed by itself was not committed")
	}
	s := w.NewSession()
	w.must("seat", s, "set k v\nwrite seat1 x")
	if got := w.must("seat", s, "get k\nwrite seat2 x"); got != "<v>" || !has("seat1") || !has("seat2") {
		t.Errorf("a session's commits: %q", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(300*time.Millisecond, cancel)
	w.Call(ctx, casemate.Call{Tool: "good", Arguments: []byte(`{"code":"write cancelled x\nsleep 5s"}`)})
	w.code("hasty", "", "write timeout x\nsleep 5s")
	w.code("small", "", "write breach x\nprint 0123456789012345")
	w.code("good", "", "write died x\ndie")
	for _, never := range []string{"cancelled", "timeout", "breach", "died"} {
		if has(never) {
			t.Errorf("%s was committed", never)
		}
	}
}

// A call that waits while its tool is changed, and so finds that no guest is
// started for the former one, runs with the tool that there is now.
func TestReloadWhileACallWaits(t *testing.T) {
	w := newWorld(t, Config{PerTool: 1, Pool: pool.Limits{Max: -1}}, a("good"))
	var all sync.WaitGroup
	all.Go(func() { w.code("good", "", "sleep 1s") })
	until(t, "the first runs", func() bool { return w.b.alive() == 1 })
	all.Go(func() {
		if o := w.code("good", "", ""); o.Error != nil {
			t.Errorf("the call that waited: %+v", o.Error)
		}
	})
	until(t, "the second waits", func() bool { return len(w.Status().Calls) == 2 })
	if err := w.Reload([]*casemate.Tool{a("good", hasty)}, nil); err != nil {
		t.Error(err)
	}
	all.Wait()
}

// A variant is parked once it was used, for the sessions that have it, and goes
// with the last of them.
func TestVariantsAreParked(t *testing.T) {
	tool := a("good", func(t *casemate.Tool) { t.Security.Pass = []string{"TOKEN"} })
	w := newWorld(t, Config{Pool: pool.Limits{Max: 4}}, tool)
	variant := casemate.Digest("sha256:" + strings.Repeat("a", 64))
	s1, s2 := w.NewSession(), w.NewSession()
	w.Variant(s1, tool.Guest(), variant)
	w.Variant(s2, tool.Guest(), variant)
	parked := func() (n int) {
		for _, pl := range w.pool.Places() {
			if len(pl.Parked) > 0 && pl.Key.Guest != variant {
				t.Errorf("%v is parked, which has no values", pl.Key)
			}
			n += len(pl.Parked)
		}
		return n
	}
	w.must("good", s1, "")
	until(t, "it is parked", func() bool { return parked() > 0 })
	w.must("good", s2, "")
	w.must("good", "", "") // which has no values
	until(t, "it is parked again", func() bool { return parked() > 0 })
	w.EndSession(s1)
	w.must("good", s2, "")
	until(t, "it is still parked", func() bool { return parked() > 0 })
	w.EndSession(s2)
	until(t, "it is gone", func() bool { return w.b.alive() == 0 })
}
