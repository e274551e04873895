package wrap

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A client is one program that starts MCP servers, and where it keeps their
// configuration.
type client struct {
	name    string
	files   []string // ~ is the home folder, + the user's configuration folder, . the working folder
	window  bool     // started from a menu: the PATH of a shell is not its own
	expands expansion
}

// An expansion says which variables a client puts into arguments.
type expansion byte

const (
	expandsNone   expansion = iota
	expandsBraces           // ${V}, ${V:-d}
	expandsDollar           // $V as well
	expandsEditor           // ${env:V}, ${userHome}, ${workspaceFolder}
	expandsEnv              // {env:V}
)

// clients are those whose files are looked for.
var clients = []client{
	{"Claude Code", []string{"~/.claude.json", "./.mcp.json"}, false, expandsBraces},
	{"Claude Desktop", []string{"+/Claude/claude_desktop_config.json"}, true, expandsNone},
	{"Gemini CLI", []string{"~/.gemini/settings.json", "./.gemini/settings.json"}, false, expandsDollar},
	{"Codex CLI", []string{"~/.codex/config.toml", "./.codex/config.toml"}, false, expandsNone},
	{"VS Code", []string{"+/Code/User/mcp.json", "+/Code - Insiders/User/mcp.json", "+/VSCodium/User/mcp.json", "./.vscode/mcp.json"}, true, expandsEditor},
	{"Cursor", []string{"~/.cursor/mcp.json", "./.cursor/mcp.json"}, true, expandsEditor},
	{"Windsurf", []string{"~/.codeium/windsurf/mcp_config.json", "~/.codeium/mcp_config.json"}, true, expandsEditor},
	{"Zed", []string{"+/zed/settings.json", "./.zed/settings.json"}, true, expandsNone},
	{"Goose", []string{"+/goose/config.yaml"}, false, expandsNone},
	{"Copilot CLI", []string{"~/.copilot/mcp-config.json", "./.github/mcp.json"}, false, expandsBraces},
	{"Cline", []string{"+/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"}, true, expandsNone},
	{"opencode", []string{"+/opencode/opencode.json", "+/opencode/opencode.jsonc", "./opencode.json", "./opencode.jsonc"}, false, expandsEnv},
}

// A Configuration is a client's file that exists on this machine.
type Configuration struct {
	Client string
	Path   string
	Err    error // it could not be looked at
}

// Configurations lists the files of known clients that exist: in the home
// folder, the user's configuration folder, and the working folder.
func Configurations(home, config, cwd string) []Configuration {
	var out []Configuration
	for _, c := range clients {
		for _, f := range c.files {
			dir := map[byte]string{'~': home, '+': config, '.': cwd}[f[0]]
			if dir == "" {
				continue
			}
			path := filepath.Join(dir, f[2:])
			switch _, err := os.Lstat(path); {
			case err == nil:
				out = append(out, Configuration{c.name, path, nil})
			case !errors.Is(err, fs.ErrNotExist):
				out = append(out, Configuration{c.name, path, err})
			}
		}
	}
	return out
}

// Read looks at the file, which nothing is to change.
func (c *Configuration) Read() (*Document, error) {
	if c.Err != nil {
		return nil, cannot(c.Path, c.Err)
	}
	f, err := Open(c.Path)
	if err != nil {
		return nil, err
	}
	return Read(f.Path, f.Content)
}

// clientOf is the client whose file has that path, by how it ends; nil where
// that tells nothing.
func clientOf(path string) *client {
	for i := range clients {
		for _, f := range clients[i].files {
			if end := f[1:]; strings.HasSuffix(path, end) || end == "/settings/cline_mcp_settings.json" {
				return &clients[i]
			}
		}
	}
	switch filepath.Base(path) {
	case "claude_desktop_config.json":
		return &clients[1]
	case "cline_mcp_settings.json":
		return &clients[10]
	}
	return nil
}

// Shared says whether the file at path is one that a project hands on, in
// which a path of this machine has no place.
func Shared(path string) bool { return projectOf(path) != "" }

// Window says whether the client of the file at path may be started without
// the PATH of a shell; it is so of every client that is not known.
func Window(path string) bool {
	c := clientOf(path)
	return c == nil || c.window
}

var braces = regexp.MustCompile(`\$\{[^{}]*\}|\{env:[^{}]*\}|\$[A-Za-z_][A-Za-z0-9_]*`)

// expand puts what is known into an argument: the home folder and that of the
// project. The client will have done so when it starts casemate run. Other
// variables stay as they are; they may be secrets.
func (d *Document) expand(arg, home, base string) string {
	e := expandsBraces // of an unknown client: what it does not expand is refused when it starts
	if d.client != nil {
		e = d.client.expands
	}
	if e == expandsNone {
		return arg
	}
	return braces.ReplaceAllStringFunc(arg, func(v string) string {
		name, _, _ := strings.Cut(strings.Trim(v, "${}"), ":-")
		inBraces := strings.HasPrefix(v, "${")
		switch {
		case e == expandsEditor && v == "${userHome}", e == expandsEditor && v == "${env:HOME}", e == expandsEnv && v == "{env:HOME}",
			(e == expandsBraces || e == expandsDollar) && inBraces && name == "HOME", e == expandsDollar && v == "$HOME":
			return home
		case e == expandsEditor && base != "" && v == "${workspaceFolder}":
			return base
		case e == expandsEditor && base != "" && v == "${workspaceFolderBasename}":
			return filepath.Base(base)
		}
		return v
	})
}
