package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

type description struct {
	OpenAPI string
	Paths   map[string]map[string]described

	Components struct {
		Parameters map[string]struct{ Name, In string }
	}
}

type described struct {
	OperationID string `json:"operationId"`
	Summary     string
	Parameters  []struct {
		Ref string `json:"$ref"`
	}
	Responses map[string]any
}

// TestDescription: every route is described, and nothing else is.
func TestDescription(t *testing.T) {
	var doc description
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Error(doc.OpenAPI)
	}
	told, ids := map[string]bool{}, map[string]bool{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			name := strings.ToUpper(method) + " " + path
			told[name] = true
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s: its operationId is missing or another's: %q", name, op.OperationID)
			}
			ids[op.OperationID] = true
			if op.Summary == "" || len(op.Summary) > 300 {
				t.Errorf("%s: its summary has %d bytes", name, len(op.Summary))
			}
			if strings.Contains(path, "{id}") && (len(op.Parameters) == 0 || !strings.HasSuffix(op.Parameters[0].Ref, "/session") && !strings.HasSuffix(op.Parameters[0].Ref, "/call")) {
				t.Errorf("%s: {id} is not described", name)
			}
		}
	}
	served := map[string]bool{}
	for pattern, rt := range (&API{}).routes() {
		served[pattern] = true
		method, path, _ := strings.Cut(pattern, " ")
		var query []string
		for _, p := range doc.Paths[path][strings.ToLower(method)].Parameters {
			if p := doc.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")]; p.In == "query" && p.Name != "context" {
				query = append(query, p.Name)
			}
		}
		slices.Sort(query)
		slices.Sort(rt.query)
		if !slices.Equal(query, rt.query) {
			t.Errorf("%s: the query has %v, and %v is described", pattern, rt.query, query)
		}
	}
	if !maps.Equal(told, served) {
		t.Errorf("described: %v\nserved: %v", slices.Sorted(maps.Keys(told)), slices.Sorted(maps.Keys(served)))
	}
}

// A checker knows the schemas of the document.
type checker struct {
	t *testing.T
	c *jsonschema.Compiler
}

func newChecker(t *testing.T) *checker {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("mem:doc", doc); err != nil {
		t.Fatal(err)
	}
	return &checker{t, c}
}

func (c *checker) valid(at, body string) error {
	c.t.Helper()
	s, err := c.c.Compile("mem:doc#" + at)
	if err != nil {
		c.t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// TestAnswersAreAsDescribed: what is really answered is what the schema of its
// route and status says, and what is accepted is what the requests' say.
func TestAnswersAreAsDescribed(t *testing.T) {
	s := withShell(t)
	check := newChecker(t)
	var doc description
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatal(err)
	}
	j := s.begin(`{"tool":"shell","background":true,"stdin":true,"session":"b","arguments":{"command":"err x\ncat"}}`)
	seen := map[string]bool{}
	for _, c := range []struct{ method, route, path, body string }{
		{"GET", "/v1/tools", "", ""},
		{"POST", "/v1/calls", "", `{"tool":"run","arguments":{"code":"print x\nfile a.png image/png x\nfile b.txt text/plain y"},"session":"s","key":"k","timeout":"10s"}`},
		{"POST", "/v1/calls", "", `{"tool":"data","arguments":"{\"code\":\"print {}\"}","timeout":3,"stream":false,"background":false,"stdin":"x"}`},
		{"POST", "/v1/calls", "", `{"tool":"run","arguments":{"code":"fail x"}}`},
		{"POST", "/v1/calls", "", `{"tool":"run","arguments":{}}`},
		{"POST", "/v1/calls", "", `{"tool":"nope"}`},
		{"POST", "/v1/calls", "", `{"tool":"run","arguments":{"code":"other"},"session":"s","key":"k"}`},
		{"POST", "/v1/calls", "", `{"tool":"shell","arguments":{"command":"cat"},"background":true}`},
		{"GET", "/v1/calls", "", ""},
		{"GET", "/v1/calls/{id}", string(j.Call), ""},
		{"GET", "/v1/calls/{id}", "c_x", ""},
		{"POST", "/v1/calls/{id}/stdin", string(j.Call), "in"},
		{"POST", "/v1/calls/{id}/signal", string(j.Call), `{"signal":"CONT"}`},
		{"POST", "/v1/calls/{id}/signal", string(j.Call), `{"signal":18}`},
		{"POST", "/v1/calls/{id}/signal", "c_x", `{"signal":"CONT"}`},
		{"DELETE", "/v1/calls/{id}", string(j.Call), ""},
		{"POST", "/v1/calls/{id}/stdin", string(j.Call), "in"},
		{"POST", "/v1/sessions", "", `{"name":"one"}`},
		{"POST", "/v1/sessions", "", `{"name":"one"}`},
		{"POST", "/v1/sessions", "", `{}`},
		{"GET", "/v1/sessions", "", ""},
		{"GET", "/v1/sessions/{id}", "one", ""},
		{"DELETE", "/v1/sessions/{id}", "one", ""},
		{"GET", "/v1/sessions/{id}", "one", ""},
		{"PUT", "/v1/sessions/{id}/files", "f?path=a", "bytes"},
		{"GET", "/v1/sessions/{id}/files", "f?path=nope", ""},
		{"GET", "/v1/sessions/{id}/files", "f?path=a&stat=1", ""},
		{"GET", "/v1/sessions/{id}/files", "f?path=.&list=1", ""},
		{"PUT", "/v1/sessions/{id}/files", "f?path=denied/a", "bytes"},
		{"POST", "/v1/sessions/{id}/files", "f", `{"files":[{"path":"a","op":"read"},{"path":"b","data":"eA=="},{"path":".","op":"list"},{"path":"denied/x","op":"stat"},{"path":"a","op":"remove"}]}`},
		{"DELETE", "/v1/sessions/{id}/files", "f?path=b", ""},
		{"DELETE", "/v1/sessions/{id}/files", "f?path=b", ""},
		{"GET", "/v1/why", "?tool=run", ""},
		{"POST", "/v1/why", "", `{"tool":"run","arguments":{"code":"x"},"session":"s"}`},
		{"GET", "/v1/openapi.json", "", ""},
	} {
		id, query, _ := strings.Cut(c.path, "?")
		path := strings.Replace(c.route, "{id}", id, 1)
		if query != "" {
			path += "?" + query
		}
		at := "/paths/" + strings.ReplaceAll(strings.ReplaceAll(c.route, "/", "~1"), "{id}", "%7Bid%7D") + "/" + strings.ToLower(c.method)
		code, got, err := s.do(t.Context(), c.method, path, c.body)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s %s: %d", c.method, path, code)
		if strings.HasPrefix(c.body, "{") {
			err := check.valid(at+"/requestBody/content/application~1json/schema", c.body)
			if err != nil && code != 400 {
				t.Errorf("%s: what is accepted is not described: %v", name, err)
			}
		}
		seen[c.method+" "+c.route] = true
		if _, ok := doc.Paths[c.route][strings.ToLower(c.method)].Responses[fmt.Sprint(code)]; !ok {
			t.Errorf("%s: the status is not described", name)
		}
		if code == 204 {
			continue
		}
		if strings.Contains(got, `"error"`) && code >= 400 {
			at = "/components/schemas/Failure"
			if err := check.valid("/components/schemas/Outcome", got); err != nil { // a failure is an outcome, too
				t.Errorf("%s: %v\n%s", name, err, got)
			}
		} else {
			at += fmt.Sprintf("/responses/%d/content/application~1json/schema", code)
		}
		if err := check.valid(at, got); err != nil {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	for _, pattern := range slices.Sorted(maps.Keys(s.api.routes())) {
		if !seen[pattern] && !strings.HasPrefix(pattern, "HEAD ") && !strings.HasSuffix(pattern, "/output") {
			t.Errorf("%s: no answer of it was checked", pattern)
		}
	}
	st := s.stream(t.Context(), "POST", "/v1/calls", `{"tool":"run","stream":true,"arguments":{"code":"print x"}}`)
	for e := st.next(); e.name != ""; e = st.next() {
		at := "/components/schemas/" + map[string]string{"stdout": "Piece", "stderr": "Piece", "outcome": "Outcome"}[e.name]
		if err := check.valid(at, e.data); err != nil {
			t.Errorf("%s: %v\n%s", e.name, err, e.data)
		}
	}
	// The door's own refusals, and what is no route.
	for _, c := range []struct {
		path string
		want int
		auth string
	}{{"/v1/tools", 401, "Bearer x"}, {"/v1/nope", 404, "Bearer " + token}, {"/v1/tools?context=x", 403, "Bearer " + token}} {
		code, got, err := s.do(t.Context(), "GET", c.path, "", "Authorization", c.auth)
		if err != nil || code != c.want || check.valid("/components/schemas/Failure", got) != nil {
			t.Errorf("%s: %d %s %v", c.path, code, got, err)
		}
	}
}
