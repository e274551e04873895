package packages

import (
	"regexp"
	"strings"
)

// What the runners of Python packages have in common.
var (
	pythonAlone = []string{"-q", "--quiet", "-v", "--verbose", "--isolated", "--no-cache", "-n", "--refresh", "--no-progress", "--native-tls", "--no-config", "--no-env-file"}
	pythonFix   = map[string]string{
		"--index-url": "set UV_DEFAULT_INDEX or PIP_INDEX_URL", "--default-index": "set UV_DEFAULT_INDEX or PIP_INDEX_URL", "-i": "set UV_DEFAULT_INDEX or PIP_INDEX_URL",
		"--extra-index-url": "set PIP_EXTRA_INDEX_URL", "--index": "set PIP_EXTRA_INDEX_URL",
		"--offline":   "leave it out: a package is prepared once, and runs offline ever after",
		"--directory": "make the project's environment by uv sync, and name its program: .venv/bin/NAME",
		"--project":   "make the project's environment by uv sync, and name its program: .venv/bin/NAME",
		"--pip-args":  "leave it out; the index is set by PIP_INDEX_URL",
		"--editable":  "install the project into an environment, and name its program there", "--with-editable": "install the project into an environment, and name its program there",
	}
)

// uvx reads the arguments of uvx.
func uvx(runner string, args []string) (*Request, error) {
	values, rest, err := flags{runner: runner, alone: pythonAlone, fix: pythonFix,
		value: map[string]string{"--from": "from", "--with": "with", "-w": "with", "-p": "python", "--python": "python"}}.parse(args)
	if err != nil {
		return nil, err
	}
	return python(runner, "--from", values, rest, true)
}

// pipx reads the arguments of pipx run.
func pipx(args []string) (*Request, error) {
	values, rest, err := flags{runner: "pipx run", alone: pythonAlone, fix: pythonFix,
		value: map[string]string{"--spec": "from", "--with": "with", "--python": "python"}}.parse(args)
	if err != nil {
		return nil, err
	}
	return python("pipx run", "--spec", values, rest, false)
}

// uvRun reads the arguments of uv run: packages of --with, and a program of
// one of them or of the interpreter.
func uvRun(args []string) (*Request, error) {
	values, rest, err := flags{runner: "uv run", alone: append([]string{"--no-project", "--no-sync", "--frozen"}, pythonAlone...), fix: pythonFix,
		value: map[string]string{"--with": "with", "-w": "with", "-p": "python", "--python": "python"}}.parse(args)
	if err != nil {
		return nil, err
	}
	if len(values["with"]) == 0 {
		return nil, invalid("make the project's environment by uv sync, and name its program: .venv/bin/NAME, or .venv/bin/python FILE; or name packages by --with", "uv run names no package to prepare")
	}
	r := &Request{Registry: PyPI}
	if err := r.with(values["with"]); err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		return nil, invalid("uv run --with PACKAGE PROGRAM", "uv run names no program")
	}
	if r.Python, err = last("uv run", "--python", values["python"]); err != nil {
		return nil, err
	}
	r.Program, r.Args = rest[0], rest[1:]
	if strings.HasSuffix(r.Program, ".py") {
		r.Program, r.Args = "python", rest
	}
	if !programName.MatchString(r.Program) {
		return nil, invalid("name a program of the packages, or a file that ends in .py", "uv run: %.100q is no program's name", r.Program)
	}
	return r, nil
}

// python is what uvx and pipx run share: a program that is a package's name,
// or a program of the package that a flag names.
func python(runner, flag string, values map[string][]string, rest []string, at bool) (*Request, error) {
	if len(rest) == 0 {
		return nil, invalid(runner+" PACKAGE", "%s: %w", runner, errEmpty)
	}
	r := &Request{Registry: PyPI, Args: rest[1:]}
	from, err := last(runner, flag, values["from"])
	if err != nil {
		return nil, err
	}
	if r.Python, err = last(runner, "--python", values["python"]); err != nil {
		return nil, err
	}
	spec := rest[0]
	if from != "" {
		if spec, r.Program = from, rest[0]; !programName.MatchString(r.Program) {
			return nil, invalid("name one of the package's programs", "%s: %.100q is no program's name", runner, r.Program)
		}
	}
	s, err := pythonSpec(spec, at)
	if err != nil {
		return nil, err
	}
	r.Specs = []Spec{s}
	if r.Program == "" {
		r.Program = s.Name
		if name := pythonNames.FindString(spec); name != "" {
			r.Program = name // as it was written: a program's name is not folded
		}
	}
	return r, r.with(values["with"])
}

// with adds packages: each value holds one, or several with commas between.
func (r *Request) with(values []string) error {
	for _, v := range values {
		for _, part := range splitSpecs(v) {
			s, err := pythonSpec(part, true)
			if err != nil {
				return err
			}
			r.Specs = append(r.Specs, s)
		}
	}
	return nil
}

// splitSpecs splits at commas after which a name begins; those of extras and
// of version specifiers stay.
func splitSpecs(v string) []string {
	var out []string
	start, depth := 0, 0
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '[':
			depth++
		case v[i] == ']':
			depth--
		case v[i] == ',' && depth == 0 && i+1 < len(v) && !strings.ContainsRune("<>=!~ ", rune(v[i+1])):
			out, start = append(out, v[start:i]), i+1
		}
	}
	return append(out, v[start:])
}

var (
	pythonNames = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?`)
	// https://packaging.python.org/en/latest/specifications/dependency-specifiers, without URLs and markers
	pythonSpecs    = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:\[([A-Za-z0-9._,-]*)\])?((?:(?:===|==|~=|!=|<=|>=|<|>)[A-Za-z0-9.*+!_-]+,?)*)$`)
	pythonVersions = regexp.MustCompile(`^[0-9][A-Za-z0-9.+!_-]*$`)
	separators     = regexp.MustCompile(`[-_.]+`)
)

// pythonSpec reads one package; at says that NAME@VERSION means NAME==VERSION.
func pythonSpec(s string, at bool) (Spec, error) {
	text := strings.ReplaceAll(s, " ", "")
	if name, version, ok := strings.Cut(text, "@"); ok && at {
		switch {
		case version == "latest":
			text = name
		case pythonVersions.MatchString(version):
			text = name + "==" + version
		}
	}
	m := pythonSpecs.FindStringSubmatch(text)
	if m == nil || len(text) > 300 || strings.HasSuffix(text, ",") {
		return Spec{}, invalid("name it as PACKAGE==VERSION; no URL, folder or repository is prepared", "%.300q is no package of PyPI", s)
	}
	// https://packaging.python.org/en/latest/specifications/name-normalization
	out := Spec{Name: strings.ToLower(separators.ReplaceAllString(m[1], "-")), Version: m[3]}
	for e := range strings.SplitSeq(m[2], ",") {
		if e != "" {
			out.Extras = append(out.Extras, strings.ToLower(e))
		}
	}
	return out, nil
}
