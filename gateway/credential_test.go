package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/casemate/casemate"
)

func hashed(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func TestMay(t *testing.T) {
	all := Credential{Name: "a", Contexts: map[string][]string{"files": {"read_*", "stat"}, "none": {}, "nil": nil}}
	some := Credential{Name: "b", Tools: []string{"read_file", "run*"}, Contexts: all.Contexts}
	in := func(c Credential, context string) Credential {
		n, err := c.In(context)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		who  Credential
		tool casemate.ToolName
		want bool
	}{
		{all, "anything", true},
		{some, "read_file", true},
		{some, "read_files", false},
		{some, "run", true},
		{some, "runner", true},
		{some, "Run", false},
		{some, "", false},
		{in(all, "files"), "read_file", true},
		{in(all, "files"), "stat", true},
		{in(all, "files"), "run", false},
		{in(some, "files"), "read_file", true},
		{in(some, "files"), "stat", false}, // a context only narrows
		{in(some, "files"), "run", false},
		{in(all, "none"), "read_file", false},
		{in(all, "nil"), "read_file", false},
		{in(all, ""), "read_file", true},
		{Credential{Tools: []string{}}, "read_file", false},
		{Credential{Tools: []string{"*"}}, "read_file", true},
		{CredentialOf(t.Context()), "read_file", false},
	} {
		if got := c.who.May(c.tool); got != c.want {
			t.Errorf("%+v %s: %v", c.who, c.tool, got)
		}
	}
	// One context cannot be left for another, and an unlisted one gives nothing.
	if c, err := in(all, "none").In("files"); err == nil || c.May("read_file") {
		t.Error("a context was left")
	}
	if c, err := some.In("wide"); casemate.KindOf(err) != casemate.Denied || c.May("run") || c.All() {
		t.Errorf("%+v %v", c, err)
	}
	if !all.All() || some.All() || in(all, "files").All() {
		t.Error("All")
	}
}

func TestConfigs(t *testing.T) {
	good := Credential{Name: "a", SHA256: hashed("one")}
	with := func(f func(*Credential)) []Credential { c := good; f(&c); return []Credential{c} }
	for name, c := range map[string]struct {
		Config
		want string // "" is fine
	}{
		"nothing":     {Config{}, "token"},
		"short token": {Config{Token: "short"}, "token"},
		"a token":     {Config{Token: token}, ""},
		"a caller":    {Config{Credentials: []Credential{good}}, ""},
		"local":       {Config{Local: &Credential{Name: DefaultCaller}}, ""},
		"short hash":  {Config{Credentials: with(func(c *Credential) { c.SHA256 = c.SHA256[:62] })}, "token_sha256"},
		"capitals":    {Config{Credentials: with(func(c *Credential) { c.SHA256 = strings.ToUpper(c.SHA256) })}, "token_sha256"},
		"no hash":     {Config{Credentials: with(func(c *Credential) { c.SHA256 = "" })}, "token_sha256"},
		"no name":     {Config{Credentials: with(func(c *Credential) { c.Name = "" })}, "name"},
		"odd name":    {Config{Credentials: with(func(c *Credential) { c.Name = "a\x00b" })}, "name"},
		"long name":   {Config{Credentials: with(func(c *Credential) { c.Name = Caller(strings.Repeat("a", 65)) })}, "name"},
		"same name":   {Config{Credentials: []Credential{good, {Name: "a", SHA256: hashed("two")}}}, "another"},
		"same token":  {Config{Credentials: []Credential{good, {Name: "b", SHA256: hashed("one")}}}, "another"},
		"default":     {Config{Token: token, Credentials: with(func(c *Credential) { c.Name = DefaultCaller })}, "another"},
		"not default": {Config{Credentials: with(func(c *Credential) { c.Name = DefaultCaller })}, "another"},
		"its token":   {Config{Token: token, Credentials: with(func(c *Credential) { c.SHA256 = hashed(token) })}, "another"},
	} {
		_, err := Handler(c.Config, nil)
		if (err == nil) != (c.want == "") || err != nil && (casemate.KindOf(err) != casemate.Invalid || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestManyCallers: each token is its own caller, and only a listener of the
// user's own needs none.
func TestManyCallers(t *testing.T) {
	routes := map[string]http.Handler{
		"/who": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %v", CallerOf(r.Context()), CredentialOf(r.Context()).May("run"))
		}),
	}
	others := []Credential{
		{Name: "a", SHA256: hashed("token-of-a"), Contexts: map[string][]string{"none": {}}},
		{Name: "b", SHA256: hashed("token-of-b"), Tools: []string{"other"}},
	}
	for _, c := range []struct {
		network, addr string
		local         *Credential
		none          string
	}{{"tcp", "127.0.0.1:0", nil, "401"}, {"unix", t.TempDir() + "/s", &Credential{Name: DefaultCaller}, "default true"}, {"unix", t.TempDir() + "/s", nil, "401"}} {
		to := serve(t, c.network, c.addr, Config{Credentials: others, Local: c.local}, routes)
		host := to.String()
		if c.network == "unix" {
			host = "localhost"
		}
		for _, ask := range []struct{ auth, query, want string }{
			{"", "", c.none},
			{"Authorization: Bearer " + token + "\n", "", "default true"},
			{"Authorization: Bearer token-of-a\n", "", "a true"},
			{"Authorization: Bearer token-of-b\n", "", "b false"},
			{"Authorization: Bearer token-of-a\n", "?context=none", "a false"},
			{"Authorization: Bearer token-of-a\n", "?context=all", "403"},
			{"Authorization: Bearer token-of-a\n", "?context=", "400"},
			{"Authorization: Bearer token-of-a\n", "?context=none&context=none", "400"},
			{"Authorization: Bearer token-of-a\n", "?context=none;x", "400"}, // what cannot be read narrows nothing
			{"Authorization: Bearer token-of-a\n", "?context=none%zz", "400"},
			{"Authorization: Bearer token-of-a\n", "?Context=none", "a true"},
			{"Authorization: Bearer token-of-c\n", "", "401"},
			{"Authorization: Bearer \n", "", "401"},
			{"Authorization: Basic token-of-a\n", "", "401"},
			{"Authorization: \n", "", "401"},
			{"Authorization: Bearer token-of-a\nAuthorization: Bearer token-of-b\n", "", "401"},
			{"Authorization: Bearer " + hashed("token-of-a") + "\n", "", "401"}, // the hash is no token
		} {
			code, answer := raw(t, to, "GET /who"+ask.query+" HTTP/1.1\nHost: "+host+"\nConnection: close\n"+ask.auth+"\n")
			got := fmt.Sprint(code)
			if code == 200 {
				got = answer[strings.LastIndex(answer, "\n")+1:]
			}
			if got != ask.want {
				t.Errorf("%s %q %q: %s, want %s", c.network, ask.auth, ask.query, got, ask.want)
			}
		}
	}
}

// TestStreamedBodies: a route that reads its body itself gets it as it comes,
// and more than the door's bound; the others do not.
func TestStreamedBodies(t *testing.T) {
	got := make(chan string, 10)
	to := serve(t, "tcp", "127.0.0.1:0", Config{Streams: func(r *http.Request) bool { return r.URL.Path == "/stream" }}, map[string]http.Handler{
		"/": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := make([]byte, 4)
			n, _ := io.ReadFull(r.Body, b)
			got <- string(b[:n])
			all, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, all, err)
		}),
	})
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /stream HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\nfour", to, token)
	if s := <-got; s != "four" { // of a body that is not through
		t.Error(s)
	}
	for path, want := range map[string]int{"/stream": 200, "/other": 413} {
		r, _ := http.NewRequest("POST", "http://"+to.String()+path, io.LimitReader(endless{}, MaxBody+1))
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want || want == 200 && string(b) != fmt.Sprint(MaxBody-3, error(nil)) {
			t.Errorf("%s: %d %s", path, res.StatusCode, b)
		}
	}
}
