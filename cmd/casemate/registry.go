package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/catalog/packages"
	"github.com/casemate/casemate/internal/plan"
)

// registry is what an installer is told of the operator's settings: where the
// registry is, by which proxy it is reached, and who vouches for it. Tokens
// are left out, and with them registries that ask for one.
type registry struct {
	env    map[string]string
	mounts []plan.Mount // of certificates
}

// npmKeys are the settings of npm that are handed on, by their names in .npmrc.
var npmKeys = regexp.MustCompile(`^(registry|@[a-z0-9._~-]+:registry|cafile|proxy|https-proxy|noproxy|strict-ssl|maxsockets|fetch-timeout|fetch-retries)$`)

// pipKeys are those of pip, by their names in pip.conf.
var pipKeys = []string{"index-url", "extra-index-url", "cert", "proxy", "timeout", "default-timeout", "retries", "trusted-host"}

// certificates are the variables that name a file of certificates, or a folder
// of them.
var certificates = []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "npm_config_cafile"}

var proxies = []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}

// registryOf reads the settings: the user's files, then the environment, which
// wins. Files of the working folder have no say. Settings that lie in the
// installer's own folders (npm's global npmrc) it reads itself.
func registryOf(r packages.Registry, environ []string, home string) (registry, error) {
	out := registry{env: map[string]string{"HOME": "/tmp"}}
	vars := map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		vars[k] = v
	}
	switch r {
	case packages.NPM:
		npmSettings(out.env, vars, home)
	case packages.PyPI:
		pipSettings(out.env, vars, home)
	}
	for _, k := range append(slices.Clone(proxies), certificates...) {
		if v := vars[k]; v != "" && !strings.HasPrefix(k, "npm_config_") {
			out.env[k] = v
		}
	}
	return out, out.certificates()
}

// npmSettings takes them from .npmrc and npm_config_*.
func npmSettings(env, vars map[string]string, home string) {
	set := func(k, v string) {
		if npmKeys.MatchString(k) && v != "" {
			env["npm_config_"+k] = v
		}
	}
	file := filepath.Join(home, ".npmrc")
	for k, v := range vars {
		if strings.EqualFold(k, "npm_config_userconfig") && filepath.IsAbs(v) {
			file = v
		}
	}
	b, _ := head(file, 256<<10)
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		k, v, _ := strings.Cut(line, "=")
		v = strings.Trim(strings.TrimSpace(v), `"'`)
		set(strings.TrimSpace(k), npmVariable.ReplaceAllStringFunc(v, func(s string) string { return vars[s[2:len(s)-1]] }))
	}
	for k, v := range vars {
		if len(k) > len("npm_config_") && strings.EqualFold(k[:len("npm_config_")], "npm_config_") {
			k = strings.ToLower(k[len("npm_config_"):])
			if !strings.HasPrefix(k, "@") {
				k = strings.ReplaceAll(k, "_", "-")
			}
			set(k, v)
		}
	}
}

var npmVariable = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*\}`)

// pipSettings takes them from pip.conf, PIP_* and, where those name no index,
// UV_*.
func pipSettings(env, vars map[string]string, home string) {
	set := func(k, v string) {
		if slices.Contains(pipKeys, k) && v != "" {
			env["PIP_"+strings.ToUpper(strings.ReplaceAll(k, "-", "_"))] = v
		}
	}
	config := vars["XDG_CONFIG_HOME"]
	if !filepath.IsAbs(config) {
		config = filepath.Join(home, ".config")
	}
	for _, file := range []string{"/etc/pip.conf", filepath.Join(home, ".pip", "pip.conf"), filepath.Join(config, "pip", "pip.conf"), vars["PIP_CONFIG_FILE"]} {
		if !filepath.IsAbs(file) {
			continue
		}
		b, _ := head(file, 256<<10)
		section, last := "", ""
		for line := range strings.Lines(string(b)) {
			text := strings.TrimSpace(line)
			switch {
			case text == "" || text[0] == '#' || text[0] == ';':
			case text[0] == '[':
				section, last = strings.Trim(text, "[]"), ""
			case section != "global" && section != "install":
			case line[0] == ' ' || line[0] == '\t': // one more value
				if slices.Contains(pipKeys, last) {
					set(last, strings.TrimSpace(env["PIP_"+strings.ToUpper(strings.ReplaceAll(last, "-", "_"))]+" "+text))
				}
			default:
				k, v, _ := strings.Cut(text, "=")
				last = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(k), "_", "-"))
				set(last, strings.TrimSpace(v))
			}
		}
	}
	for _, uv := range []string{"UV_INDEX_URL", "UV_DEFAULT_INDEX"} {
		set("index-url", vars[uv])
	}
	for k, v := range vars {
		if rest, ok := strings.CutPrefix(k, "PIP_"); ok {
			set(strings.ToLower(strings.ReplaceAll(rest, "_", "-")), v)
		}
	}
}

// certificates grants the files that the settings name and that no sandbox
// has.
func (r *registry) certificates() error {
	for _, k := range certificates {
		p := r.env[k]
		if p == "" || within(append([]string{"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust"}, systemFolders...), p) {
			continue
		}
		real, err := filepath.EvalSymlinks(p)
		if err != nil || !filepath.IsAbs(p) {
			return &casemate.Error{Op: "prepare", Kind: casemate.Unsupported, Err: fmt.Errorf("%s names %q, which is no file of certificates here", k, p), Fix: "correct " + k + " or the setting that it stands for"}
		}
		fi, err := os.Stat(real)
		if err != nil || !fi.Mode().IsRegular() {
			return &casemate.Error{Op: "prepare", Kind: casemate.Unsupported, Err: fmt.Errorf("%s names %q, which is no file of certificates", k, p), Fix: "name one file by " + k}
		}
		if !slices.ContainsFunc(r.mounts, func(m plan.Mount) bool { return m.At == p }) {
			r.mounts = append(r.mounts, plan.Mount{Source: real, At: p})
		}
	}
	return nil
}
