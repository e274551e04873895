package process

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/wasm"
)

func TestCompileModule(t *testing.T) {
	o := Options{Worker: "/lib/casemate-wasm", Module: "/store/m"}
	command := &casemate.Tool{Name: "c", Roles: map[string]casemate.Role{"x": casemate.RoleOption},
		Run: casemate.Run{Wasm: &casemate.Wasm{Module: "/m.wasm", Args: []string{"-v", "{x}"}, Stdin: "{text}", Deterministic: true}},
		Security: casemate.Profile{Env: map[string]string{"A": "b"}, Pass: []string{"T"}, Processes: 1,
			Filesystem: []casemate.Mount{{Path: "/h/docs", At: "/docs", Access: casemate.Read}}}}
	with := o
	with.Env = map[string]string{"T": "t"}
	g, err := Compile(command, with)
	if err != nil {
		t.Fatal(err)
	}
	if g.Runner != wasm.Runner || g.Backend != "wasm" || g.Version != wasm.Version || g.Interpreter != wasm.WorkerPath || g.Runtime != o.Worker || g.Module != o.Module || g.Stdin != "text" ||
		!slices.Equal(g.Command, []plan.Arg{{Text: "-v"}, {Name: "x"}}) || !slices.Equal(g.Options, []string{"x"}) || !slices.Equal(g.Preload, []string{wasm.Deterministic}) {
		t.Errorf("%+v", g)
	}
	// Of the host it has its grants, the module, and the worker, which alone is run;
	// of variables those that the profile names.
	if want := []plan.Mount{{Source: "/h/docs", At: "/docs"}, {Source: o.Worker, At: wasm.WorkerPath, Execute: true, Prefix: true}, {Source: o.Module, At: wasm.ModulePath}}; !reflect.DeepEqual(g.Mounts, want) {
		t.Errorf("%+v", g.Mounts)
	}
	if !slices.Equal(g.Env, []string{"A=b", "T=t"}) || g.Processes != threads {
		t.Errorf("%q %d", g.Env, g.Processes)
	}
	g, err = Compile(&casemate.Tool{Name: "f", Run: casemate.Run{Wasm: &casemate.Wasm{Module: "/m.wasm", Function: "sum"}}}, o)
	if err != nil || g.Function != "sum" || g.Preload != nil || g.Command != nil {
		t.Errorf("%+v %v", g, err)
	}
	js := func(p casemate.Profile) *casemate.Tool {
		return &casemate.Tool{Name: "j", Run: casemate.Run{JS: &casemate.JS{}}, Security: p}
	}
	if g, err = Compile(js(casemate.Profile{Isolation: "wasm"}), o); err != nil || g.Runner != wasm.RunnerJS || g.Module != o.Module {
		t.Errorf("%+v %v", g, err)
	}
	imaged := js(casemate.Profile{})
	imaged.Image = &casemate.Image{Reference: "oci:./x"}
	for says, f := range map[string]func() error{
		"isolation": func() error { _, err := Compile(js(casemate.Profile{Isolation: "process"}), o); return err },
		"network": func() error {
			_, err := Compile(js(casemate.Profile{Network: casemate.NetworkLoopback}), o)
			return err
		},
		"image":    func() error { _, err := Compile(imaged, o); return err },
		"compiled": func() error { _, err := Compile(js(casemate.Profile{}), Options{}); return err },
		"filesystem": func() error {
			_, err := Compile(js(casemate.Profile{Filesystem: command.Security.Filesystem}), o)
			return err
		},
	} {
		if err := f(); casemate.KindOf(err) != casemate.Unsupported || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
