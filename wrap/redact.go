package wrap

import (
	"net/url"
	"regexp"
	"strings"
)

// hiddenText stands for what is not shown.
const hiddenText = "…"

var (
	secretName  = regexp.MustCompile(`(?i)(key|token|secret|passw|pwd|auth|credential|cookie|session|bearer|private|dsn|conn)|(^|[-_])pat$`)
	headerLine  = regexp.MustCompile(`^([A-Za-z0-9_-]+:)\s*.`)
	option      = regexp.MustCompile(`^--?[a-z][a-z0-9-]*(=|$)`)
	secretShape = regexp.MustCompile(`^(sk-|pk-|rk-|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|xox[a-z]-|AKIA|AIza|eyJ|hf_|npm_|pypi-|Bearer )`)
	longToken   = regexp.MustCompile(`^[A-Za-z0-9+/=_.~-]{24,}$`)
	digit       = regexp.MustCompile(`[0-9]`)
)

// Redact returns a command line for people: what is or may be a secret is
// hidden. It is a net and not a proof: what nothing tells from a word is shown.
func Redact(argv []string) []string {
	out := make([]string, len(argv))
	hide := false // this one is the value of an option that is named like a secret
	for i, a := range argv {
		wasOption := strings.HasPrefix(a, "-")
		switch name, value, joined := strings.Cut(a, "="); {
		case i > 0 && hide && !option.MatchString(a):
			out[i] = hiddenText
		case i > 0 && headed(argv[i-1], a):
			out[i] = headerLine.FindStringSubmatch(a)[1] + " " + hiddenText
		case i > 0 && strings.ContainsAny(a, " \t\n{[\"'") && secretName.MatchString(a):
			out[i] = hiddenText // of more than one word: such as JSON, or a command
		case strings.Contains(name, "://"):
			out[i] = redactURL(a)
		case i > 0 && joined && (secretName.MatchString(name) || secret(value)):
			out[i] = name + "=" + hiddenText
		case i > 0 && joined && strings.Contains(value, "://"):
			out[i] = name + "=" + redactURL(value)
		case i > 0 && secret(a):
			out[i] = hiddenText
		default:
			out[i] = a
		}
		hide = wasOption && !strings.Contains(a, "=") && secretName.MatchString(a)
	}
	return out
}

// headed says whether an element is a header, such as of HTTP, whose value is
// hidden: by its own name, or the option before it.
func headed(before, a string) bool {
	m := headerLine.FindStringSubmatch(a)
	return m != nil && (before == "-H" || before == "--header" || !strings.Contains(a, "://") && secretName.MatchString(strings.TrimSuffix(m[1], ":")))
}

// secret says whether a word looks like a token: a known beginning, or long,
// with digits, and neither a path nor a package.
func secret(s string) bool {
	if secretShape.MatchString(s) {
		return true
	}
	return longToken.MatchString(s) && digit.MatchString(s) && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, ".") && !strings.HasPrefix(s, "-") && strings.Count(s, "/") < 2
}

// redactURL leaves of a URL its scheme, host and port.
func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		scheme, _, _ := strings.Cut(s, "://")
		return scheme + "://" + hiddenText
	}
	out := u.Scheme + "://" + u.Host
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(u.Path) > 1 {
		out += "/" + hiddenText
	}
	return out
}
