package packages

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/casemate/casemate"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]struct {
		key     string // "" is no request; beginning with "!" an error that holds the rest
		program string
		args    string
	}{
		"npx -y cowsay hi":                               {"npm:cowsay", "", "hi"},
		"/usr/bin/npx cowsay -- -x":                      {"npm:cowsay", "", "-- -x"},
		"npx -y -- cowsay -y":                            {"npm:cowsay", "", "-y"},
		"npx --yes @scope/name@^1.2.0 /docs":             {"npm:@scope/name@^1.2.0", "", "/docs"},
		"npx -y name@latest":                             {"npm:name@latest", "", ""},
		"npx -p @scope/name prog a":                      {"npm:@scope/name", "prog", "a"},
		"npx --package=a -p b@2 prog":                    {"npm:a b@2", "prog", ""},
		"npx":                                            {"!names no package", "", ""},
		"npx -y":                                         {"!names no package", "", ""},
		"npx -p":                                         {"!-p has no value", "", ""},
		"npx -c cowsay":                                  {"!npx -c is not known", "", ""},
		"npx --registry=http://x cowsay":                 {"!--registry is not known", "", ""},
		"npx --unsafe cowsay":                            {"!--unsafe is not known", "", ""},
		"npx http://example.test/x.tgz":                  {"!is no name", "", ""},
		"npx user/repo":                                  {"!is no name", "", ""},
		"npx ./folder":                                   {"!is no name", "", ""},
		"npx ../../etc":                                  {"!is no name", "", ""},
		"npx x@npm:y":                                    {"!is no package of npm with a version", "", ""},
		"npx x@git+ssh://h/r":                            {"!is no package of npm with a version", "", ""},
		"npx x@file:../y":                                {"!is no package of npm with a version", "", ""},
		"npx -p x ../prog":                               {"!is no program's name", "", ""},
		"npm exec -y -- cowsay -f":                       {"npm:cowsay", "", "-f"},
		"npm exec cowsay -- -f":                          {"npm:cowsay", "", "-f"},
		"npm x cowsay hi":                                {"npm:cowsay", "", "hi"},
		"npm exec cowsay -f":                             {"!takes -f for itself", "", ""},
		"npm run start":                                  {"", "", ""},
		"uvx mcp-server-time --local-timezone UTC":       {"pypi:mcp-server-time", "mcp-server-time", "--local-timezone UTC"},
		"uvx Mcp_Server.Time@1.2":                        {"pypi:mcp-server-time==1.2", "Mcp_Server.Time", ""},
		"uvx ruff@latest check":                          {"pypi:ruff", "ruff", "check"},
		"uvx --from mcp[cli]==1.2.0 mcp run x.py":        {"pypi:mcp[cli]==1.2.0", "mcp", "run x.py"},
		"uvx --from a --with b,c>=1,<2 --with d prog -v": {"pypi:a b c>=1,<2 d", "prog", "-v"},
		"uvx --python 3.12 -q a":                         {"pypi:a", "a", ""},
		"uvx --from git+https://h/r prog":                {"!is no package of PyPI", "", ""},
		"uvx --from . prog":                              {"!is no package of PyPI", "", ""},
		"uvx a@https://h/r":                              {"!is no package of PyPI", "", ""},
		"uvx --index-url http://x a":                     {"!--index-url is not known", "", ""},
		"uvx --from a --from b prog":                     {"!--from stands twice", "", ""},
		"uv tool run --from a prog":                      {"pypi:a", "prog", ""},
		"uv run --with mcp mcp run /s.py":                {"pypi:mcp", "mcp", "run /s.py"},
		"uv run --with mcp /s.py a":                      {"pypi:mcp", "python", "/s.py a"},
		"uv run server.py":                               {"!names no package to prepare", "", ""},
		"uv run --directory /p x":                        {"!--directory is not known", "", ""},
		"uv pip install x":                               {"", "", ""},
		"pipx run cowsay -t hi":                          {"pypi:cowsay", "cowsay", "-t hi"},
		"pipx run --spec a==1 prog":                      {"pypi:a==1", "prog", ""},
		"pipx run --pip-args=x prog":                     {"!--pip-args is not known", "", ""},
		"pnpm dlx cowsay":                                {"!pnpm dlx is not known", "", ""},
		"bunx cowsay":                                    {"!bunx is not known", "", ""},
		"yarn dlx cowsay":                                {"!yarn dlx is not known", "", ""},
		"python3 -m x":                                   {"", "", ""},
		"node npx":                                       {"", "", ""},
	} {
		r, err := Parse(strings.Fields(line))
		if bad, ok := strings.CutPrefix(want.key, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), bad) || err.(*casemate.Error).Fix == "" {
				t.Errorf("%s: %+v, %v; want an error with %q and a fix", line, r, err, bad)
			}
			continue
		}
		if err != nil || (r == nil) != (want.key == "") {
			t.Errorf("%s: %+v, %v", line, r, err)
			continue
		}
		if r != nil && (r.Key() != want.key || r.Program != want.program || strings.Join(r.Args, " ") != want.args) {
			t.Errorf("%s: %q %q %q", line, r.Key(), r.Program, r.Args)
		}
	}
}

func tree(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return m
}

func TestFindNPM(t *testing.T) {
	const at = "node_modules/@s/p/"
	for name, c := range map[string]struct {
		manifest string
		files    []string
		program  string
		want     string // beginning with "!" an error that holds the rest
	}{
		"one path":             {`{"bin": "./dist/i.js"}`, []string{"dist/i.js"}, "", at + "dist/i.js"},
		"one of a table":       {`{"bin": {"other": "i.js"}}`, []string{"i.js"}, "", at + "i.js"},
		"its own name":         {`{"bin": {"other": "o.js", "p": "i.js"}}`, []string{"i.js", "o.js"}, "", at + "i.js"},
		"by name":              {`{"bin": {"other": "o.js", "p": "i.js"}}`, []string{"i.js", "o.js"}, "other", at + "o.js"},
		"not its own":          {`{"bin": {"a": "o.js", "b": "i.js"}}`, []string{"i.js", "o.js"}, "", "!has no program"},
		"none":                 {`{}`, nil, "", "!has no program"},
		"null":                 {`{"bin": null}`, nil, "", "!has no program"},
		"a near name":          {`{"bin": {"server": "i.js"}}`, []string{"i.js"}, "servre", "!has no program"},
		"climbs":               {`{"bin": {"p": "../../../etc/passwd"}}`, nil, "", "!leads out of it"},
		"climbs later":         {`{"bin": {"p": "a/../../../../etc/passwd"}}`, nil, "", "!leads out of it"},
		"absolute":             {`{"bin": {"p": "/etc/passwd"}}`, nil, "", "!leads out of it"},
		"a hostile one beside": {`{"bin": {"p": "i.js", "q": "/etc/passwd"}}`, []string{"i.js"}, "", "!leads out of it"},
		"of another system":    {`{"bin": {"p": "..\\x"}}`, nil, "", "!leads out of it"},
		"not there":            {`{"bin": "i.js"}`, nil, "", "!is no file"},
		"a folder":             {`{"bin": "d"}`, []string{"d/i.js"}, "", "!is no file"},
		"the folder itself":    {`{"bin": "."}`, nil, "", "!is no file"},
		"a number":             {`{"bin": 1}`, nil, "", "!neither a path nor a table"},
		"a list":               {`{"bin": ["i.js"]}`, []string{"i.js"}, "", "!neither a path nor a table"},
		"no JSON":              {`bin: i.js`, []string{"i.js"}, "", "!is no JSON"},
		"no manifest":          {"", nil, "", "!package.json"},
		"too large a manifest": {`{"bin": "i.js"` + strings.Repeat(" ", maxManifest) + `}`, []string{"i.js"}, "", "!not a regular file of at most"},
	} {
		files := map[string]string{}
		if c.manifest != "" {
			files[at+"package.json"] = c.manifest
		}
		for _, f := range c.files {
			files[at+f] = "x"
		}
		r := &Request{Registry: NPM, Specs: []Spec{{Name: "@s/p"}}, Program: c.program}
		got, err := r.Find(tree(files))
		if bad, ok := strings.CutPrefix(c.want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), bad) {
				t.Errorf("%s: %q, %v; want an error with %q", name, got, err, bad)
			}
		} else if got != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestFindPython(t *testing.T) {
	files := tree(map[string]string{"bin/server": "#!/x/python\n", "bin/d/x": ""})
	for program, want := range map[string]string{"server": "bin/server", "python": "", "python3": "", "servr": "!did you mean server?", "d": "!has no program"} {
		r := &Request{Registry: PyPI, Specs: []Spec{{Name: "p"}}, Program: program}
		got, err := r.Find(files)
		if bad, ok := strings.CutPrefix(want, "!"); ok {
			if err == nil || !strings.Contains(err.Error()+err.(*casemate.Error).Fix, bad) {
				t.Errorf("%s: %q, %v", program, got, err)
			}
		} else if got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", program, got, err, want)
		}
	}
}

func TestReceived(t *testing.T) {
	for _, c := range []struct {
		r                    Registry
		name, report         string
		version, sum, failed string
	}{
		{NPM, "@s/p", `{"packages": {"": {}, "node_modules/@s/p": {"version": "1.2.3", "integrity": "sha512-x=="}}}`, "1.2.3", "sha512-x==", ""},
		{NPM, "q", `{"packages": {"node_modules/p": {"version": "1"}}}`, "", "", "does not have q"},
		{NPM, "p", `{"packages": {"node_modules/p": {}}}`, "", "", "no version"},
		{NPM, "p", "{\"packages\": {\"node_modules/p\": {\"version\": \"1\\u001b[2J\"}}}", "", "", "no version"},
		{NPM, "p", `[]`, "", "", "makes no sense"},
		{PyPI, "p-q", `{"install": [{"metadata": {"name": "x", "version": "9"}}, {"metadata": {"name": "P_q", "version": "1.0"}, "download_info": {"archive_info": {"hashes": {"sha256": "ab"}}}}]}`, "1.0", "sha256:ab", ""},
		{PyPI, "p", `{"install": []}`, "", "", "does not have p"},
	} {
		r := &Request{Registry: c.r, Specs: []Spec{{Name: c.name}}}
		version, sum, err := r.Received(tree(map[string]string{"report": c.report}), "report")
		if c.failed != "" {
			if err == nil || !strings.Contains(err.Error(), c.failed) {
				t.Errorf("%s: %v; want %q", c.report, err, c.failed)
			}
		} else if version != c.version || sum != c.sum || err != nil {
			t.Errorf("%s: %q %q %v", c.report, version, sum, err)
		}
	}
}

// TestNode: who asks for a version of node gets the package that has it
// without a script.
func TestNode(t *testing.T) {
	r, err := Parse([]string{"npx", "-p", "node@22", "-p", "x", "prog"})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Specs[0].Installed()
	if !strings.HasPrefix(s.Name, "node-linux-") || s.Version != "22" || r.Node() != "node_modules/"+s.Name+"/bin/node" {
		t.Errorf("%+v %q", s, r.Node())
	}
	if got := r.Specs[1].Installed(); !reflect.DeepEqual(got, r.Specs[1]) {
		t.Errorf("%+v", got)
	}
}

// FuzzFind: whatever a manifest says, the path stays in the package.
func FuzzFind(f *testing.F) {
	f.Add(`{"bin": {"p": "./i.js"}}`)
	f.Add(`{"bin": "../../x"}`)
	f.Fuzz(func(t *testing.T, manifest string) {
		r := &Request{Registry: NPM, Specs: []Spec{{Name: "p"}}}
		r.Received(tree(map[string]string{"report": manifest}), "report")
		programs, err := npmPrograms(tree(map[string]string{"node_modules/p/package.json": manifest}), "p")
		for _, p := range programs {
			if err == nil && p != "node_modules/p" && !strings.HasPrefix(p, "node_modules/p/") {
				t.Errorf("%q", p)
			}
		}
	})
}

// FuzzParse: what is installed is named by a name, and never an option of the
// installer.
func FuzzParse(f *testing.F) {
	f.Add("npx\x00-y\x00@s/p@^1")
	f.Add("uvx\x00--from\x00a[b]>=1,<2\x00c")
	f.Fuzz(func(t *testing.T, line string) {
		r, err := Parse(strings.Split(line, "\x00"))
		if err != nil || r == nil {
			return
		}
		for _, s := range r.Specs {
			if text := s.String(r.Registry); strings.HasPrefix(text, "-") || strings.ContainsAny(text, ":\\\x00\n") || strings.Contains(text, "..") && strings.Contains(text, "/../") {
				t.Errorf("%q", text)
			}
		}
	})
}
