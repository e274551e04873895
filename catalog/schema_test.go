package catalog

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write schema/casemate.schema.json")

const checkedIn = "../schema/casemate.schema.json"

func TestSchemaIsCheckedIn(t *testing.T) {
	if *update {
		if err := os.WriteFile(checkedIn, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(checkedIn)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, Schema()) {
		t.Error("schema/casemate.schema.json is not what keys.go says: go test ./catalog -update")
	}
}

// editor is what an editor with the schema says of src: nil is no complaint.
// Text that cannot be JSON, by what it is or what only YAML has, never gets
// to the schema.
func editor(t *testing.T, s *jsonschema.Schema, name, src string) (said error, reached bool) {
	t.Helper()
	p := &problems{file: name}
	root := read(p, []byte(src))
	if root == nil {
		return p.err(), false
	}
	b := &builder{problems: p}
	var w bytes.Buffer
	b.writeJSON(&w, root, "")
	if err := p.err(); err != nil {
		return err, false
	}
	v, err := jsonschema.UnmarshalJSON(&w)
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v), true
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("casemate.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("casemate.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchemaAgrees compares the schema with the decoder: what the decoder
// takes the schema takes, and what is wrong by itself both refuse.
func TestSchemaAgrees(t *testing.T) {
	s := compiled(t)
	for _, m := range mistakes() {
		if err, reached := editor(t, s, "casemate.yaml", m.src); reached && (err != nil) != m.schema {
			t.Errorf("%s: the schema says %v", m.name, err)
		}
	}
	for name, src := range good(t) {
		dir := folder(t, map[string]string{name: src, "docs/": "", "work/": "", "bin/tool": "#!/bin/sh\n"})
		if _, err := Load(filepath.Join(dir, name), options()); err != nil {
			t.Errorf("%s: the decoder refuses it: %v", name, err)
		}
		if err, _ := editor(t, s, name, src); err != nil {
			t.Errorf("%s: the schema refuses it: %v", name, err)
		}
	}
}

// good are the manifests of testdata, and the starter.
func good(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{"casemate.yaml": string(Starter())}
	files, err := filepath.Glob("testdata/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.IsDir() {
			continue
		}
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(src)
	}
	return out
}

// TestParametersOfEachToolCompile makes sure that what is handed to the
// router is a schema, canonical and closed.
func TestParametersOfEachToolCompile(t *testing.T) {
	for name, src := range good(t) {
		dir := folder(t, map[string]string{name: src, "docs/": "", "work/": "", "bin/tool": "#!/bin/sh\n"})
		c, err := Load(filepath.Join(dir, name), options())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, tool := range c.Tools {
			if _, why := compile(tool.Parameters); why != "" {
				t.Errorf("%s: %s: %s", name, tool.Name, why)
			}
			var v map[string]any
			d := json.NewDecoder(bytes.NewReader(tool.Parameters))
			d.UseNumber()
			if err := d.Decode(&v); err != nil || v["type"] != "object" {
				t.Errorf("%s: %s: %s", name, tool.Name, tool.Parameters)
			}
			again, err := json.Marshal(v)
			if err != nil || !bytes.Equal(again, tool.Parameters) {
				t.Errorf("%s: %s: not canonical: %s", name, tool.Name, tool.Parameters)
			}
		}
	}
}

// TestSchemaRef is the row schema-ref, one wall further in: the compiler
// itself follows no reference, and says nothing of what lies there.
func TestSchemaRef(t *testing.T) {
	dir := folder(t, map[string]string{"secret.json": `{"type": "CANARY"}`, "good.json": `{"type": "object"}`})
	for _, ref := range []string{"file://" + dir + "/secret.json", "file://" + dir + "/good.json", "../secret.json"} {
		_, why := compile([]byte(`{"type": "object", "properties": {"a": {"$ref": "` + ref + `"}}}`))
		if why == "" || bytes.Contains([]byte(why), []byte("CANARY")) {
			t.Errorf("%s: %q", ref, why)
		}
	}
}
