package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const token = "a-token-of-the-test-0123456789"

// serve serves routes behind a door on a listener of its own.
func serve(t *testing.T, network, addr string, c Config, routes map[string]http.Handler) net.Addr {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("%s: %v", addr, err) // a host without IPv6
	}
	c.Token = token
	h, err := Handler(c, routes)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h, time.Second, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr()
}

// raw sends head, exactly as it is, and returns the status and the whole
// answer.
func raw(t *testing.T, to net.Addr, head string) (int, string) {
	t.Helper()
	conn, err := net.Dial(to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(head, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	all := &strings.Builder{}
	res.Header.Write(all)
	return res.StatusCode, all.String() + string(body)
}

// TestOpenListener is the regression of that name: every combination of Host,
// Origin and token.
func TestOpenListener(t *testing.T) {
	route := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "SECRET for ", CallerOf(r.Context()))
	})
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		t.Run(listen, func(t *testing.T) {
			to := serve(t, "tcp", listen, Config{Hosts: []string{"casemate.example", "other.example:8443"}}, map[string]http.Handler{"/secret": route})
			port := to.(*net.TCPAddr).Port
			if listen == "0.0.0.0:0" {
				to = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
			}
			own := fmt.Sprintf("127.0.0.1:%d", port)
			foreign := fmt.Sprintf("[::1]:%d", port)
			if listen == "[::1]:0" {
				own, foreign = foreign, own
			}
			hosts := map[string]bool{
				own:                                            true,
				fmt.Sprintf("localhost:%d", port):              true,
				fmt.Sprintf("LOCALHOST:%d", port):              true,
				"casemate.example":                             true,
				"Casemate.Example:1234":                        true,
				"other.example:8443":                           true,
				foreign:                                        false,
				"other.example":                                false,
				"other.example:8444":                           false,
				"evil.example":                                 false,
				fmt.Sprintf("evil.example:%d", port):           false,
				"localhost":                                    false,
				"127.0.0.1":                                    false,
				fmt.Sprintf("localhost:%d", port+1):            false,
				fmt.Sprintf("localhost:0%d", port):             false,
				fmt.Sprintf("localhost.:%d", port):             false,
				fmt.Sprintf("127.0.0.2:%d", port):              false,
				fmt.Sprintf("127.1:%d", port):                  false,
				fmt.Sprintf("2130706433:%d", port):             false,
				fmt.Sprintf("0.0.0.0:%d", port):                false,
				fmt.Sprintf("localhost:%d:%d", 1, port):        false,
				fmt.Sprintf("127.0.0.1.nip.io:%d", port):       false,
				fmt.Sprintf("localhost.evil.example:%d", port): false,
				"": false,
			}
			tokens := map[string]bool{
				"Authorization: Bearer " + token + "\n":     true,
				"authorization: bearer " + token + "\n":     true,
				"":                                          false,
				"Authorization: Bearer " + token + "x\n":    false,
				"Authorization: Bearer " + token[1:] + "\n": false,
				"Authorization: Bearer\n":                   false,
				"Authorization: Basic " + token + "\n":      false,
				"Authorization: " + token + "\n":            false,
				"Authorization: Bearer " + token + "\nAuthorization: Bearer " + token + "\n": false,
				"Cookie: token=" + token + "\n":                                              false,
			}
			for host, hostOK := range hosts {
				origins := map[string]bool{
					"":                                   true,
					"Origin: http://" + host + "\n":      true,
					"Origin: http://evil.example\n":      false,
					"Origin: null\n":                     false,
					"Origin: http://" + host + ".evil\n": false,
					"Origin: http://" + host + "/\n":     false,
					"Origin: http://x@" + host + "\n":    false,
					"Origin: file://" + host + "\n":      false,
					"Origin: http://localhost:1\n":       false,
					"Origin: \n":                         false,
					"Sec-Fetch-Site: same-origin\n":      true,
					"Sec-Fetch-Site: cross-site\n":       false,
					"Sec-Fetch-Site: same-site\n":        false,
					"Origin: http://" + host + "\nOrigin: http://" + host + "\n": false,
				}
				for origin, originOK := range origins {
					for auth, authOK := range tokens {
						want := http.StatusOK
						switch {
						case !hostOK && host == "":
							want = http.StatusMisdirectedRequest
						case !hostOK:
							want = http.StatusMisdirectedRequest
						case !originOK:
							want = http.StatusForbidden
						case !authOK:
							want = http.StatusUnauthorized
						}
						got, answer := raw(t, to, "GET /secret HTTP/1.1\nHost: "+host+"\nConnection: close\n"+origin+auth+"\n")
						if got != want || strings.Contains(answer, "SECRET") != (want == 200) {
							t.Errorf("host %q, %q, %q: %d, want %d", host, origin, auth, got, want)
						}
						if (got == 401) != strings.Contains(answer, "Www-Authenticate: Bearer") {
							t.Errorf("%d with %s", got, answer)
						}
						if strings.Contains(answer, "Access-Control") {
							t.Errorf("CORS: %s", answer)
						}
					}
				}
			}
		})
	}
}

func TestUnixListener(t *testing.T) {
	to := serve(t, "unix", t.TempDir()+"/s", Config{}, map[string]http.Handler{"/": http.NotFoundHandler()})
	for host, want := range map[string]int{"localhost": 404, "evil.example": 421} {
		if got, _ := raw(t, to, "GET /x HTTP/1.1\nHost: "+host+"\nConnection: close\nAuthorization: Bearer "+token+"\n\n"); got != want {
			t.Errorf("%s: %d, want %d", host, got, want)
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	to := serve(t, "tcp", "127.0.0.1:0", Config{}, map[string]http.Handler{
		"/known": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }),
		"/panic": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("with a secret") }),
	})
	auth := "Authorization: Bearer " + token + "\n"
	for _, c := range []struct {
		line, more string
		want       int
		body       string
	}{
		{"GET /healthz", "", 200, "ok\n"},
		{"POST /healthz", "Content-Length: 0\n", 401, ""},
		{"GET /healthz/../known", "", 401, ""},
		{"GET /known", "", 401, ""},
		{"GET /unknown", "", 401, ""}, // like a known one
		{"GET /unknown", auth, 404, ""},
		{"GET /known", auth, 200, ""},
		{"OPTIONS /known", "", 405, ""},
		{"OPTIONS /known", auth + "Access-Control-Request-Method: POST\n", 405, ""},
		{"OPTIONS *", auth, 405, ""},
		{"TRACE /known", auth, 405, ""},
		{"GET /panic", auth, 500, "internal error"},
		{"GET /known", auth, 200, ""}, // it lives
		{"GET /known", auth + "X: " + strings.Repeat("x", 64<<10) + "\n", 431, ""},
		{"GET http://evil.example/known", auth, 421, ""}, // the absolute form is the Host
	} {
		got, answer := raw(t, to, c.line+" HTTP/1.1\nHost: "+to.String()+"\nConnection: close\n"+c.more+"\n")
		if got != c.want || !strings.HasSuffix(strings.TrimSpace(answer), strings.TrimSpace(c.body)) || strings.Contains(answer, "secret") {
			t.Errorf("%s: %d %q, want %d", c.line, got, answer, c.want)
		}
	}
}

func TestBodies(t *testing.T) {
	to := serve(t, "tcp", "127.0.0.1:0", Config{}, map[string]http.Handler{
		"/len": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, "got ", n)
		}),
	})
	post := func(body io.Reader, length int64, auth string) (int, string) {
		r, _ := http.NewRequest("POST", "http://"+to.String()+"/len", body)
		r.ContentLength = length
		r.Header.Set("Authorization", auth)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	zeros := func(n int64) io.Reader { return io.LimitReader(endless{}, n) }
	for _, c := range []struct {
		n, length int64
		want      int
	}{{1, 1, 200}, {MaxBody, MaxBody, 200}, {MaxBody, -1, 200}, {MaxBody + 1, -1, 413}, {MaxBody + 1, MaxBody + 1, 413}} {
		if got, body := post(zeros(c.n), c.length, "Bearer "+token); got != c.want || c.want == 200 && body != fmt.Sprint("got ", c.n) {
			t.Errorf("%d bytes, length %d: %d %q, want %d", c.n, c.length, got, body, c.want)
		}
	}
	// Who has no token cannot make the server read a body.
	got, _ := raw(t, to, "POST /len HTTP/1.1\nHost: "+to.String()+"\nContent-Length: 1000000\n\n")
	if got != 401 {
		t.Errorf("a body without a token: %d", got)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTooManyAtOnce(t *testing.T) {
	enter, leave := make(chan struct{}), make(chan struct{})
	to := serve(t, "tcp", "127.0.0.1:0", Config{Requests: 2}, map[string]http.Handler{
		"/wait":  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { enter <- struct{}{}; <-leave }),
		"/quick": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	})
	get := func(path string) int {
		code, _ := raw(t, to, "GET "+path+" HTTP/1.1\nHost: "+to.String()+"\nConnection: close\nAuthorization: Bearer "+token+"\n\n")
		return code
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { get("/wait") })
		<-enter
	}
	if got := get("/quick"); got != 503 {
		t.Errorf("the third of two: %d", got)
	}
	if got := get("/healthz"); got != 200 {
		t.Errorf("health of a busy server: %d", got)
	}
	close(leave)
	wg.Wait()
	if got := get("/quick"); got != 200 {
		t.Errorf("after them: %d", got)
	}
}

// TestTooManyOfOneCaller: one caller's requests leave room for another's.
func TestTooManyOfOneCaller(t *testing.T) {
	enter, leave := make(chan struct{}), make(chan struct{})
	to := serve(t, "tcp", "127.0.0.1:0", Config{Requests: 4, Credentials: []Credential{{Name: "a", SHA256: hashed("token-of-a")}}}, map[string]http.Handler{
		"/wait":  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { enter <- struct{}{}; <-leave }),
		"/quick": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	})
	get := func(path, token string) int {
		code, _ := raw(t, to, "GET "+path+" HTTP/1.1\nHost: "+to.String()+"\nConnection: close\nAuthorization: Bearer "+token+"\n\n")
		return code
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { get("/wait", "token-of-a") })
		<-enter
	}
	if got := get("/quick", "token-of-a"); got != 503 {
		t.Errorf("the fourth of one: %d", got)
	}
	if got := get("/quick", token); got != 200 {
		t.Errorf("the first of another: %d", got)
	}
	close(leave)
	wg.Wait()
	if got := get("/quick", "token-of-a"); got != 200 {
		t.Errorf("after them: %d", got)
	}
}

func TestShortTokensMakeNoDoor(t *testing.T) {
	for _, tok := range []string{"", "short"} {
		if h, err := Handler(Config{Token: tok}, nil); err == nil || h != nil {
			t.Errorf("%q: %v", tok, err)
		}
	}
}

// TestServeEnds: a stream is ended at once, a request gets its grace, a stuck
// one is cut.
func TestServeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := make(chan string, 3)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		in <- r.Method
		switch r.URL.Path {
		case "/short":
			time.Sleep(100 * time.Millisecond)
			io.WriteString(w, "finished")
		default:
			<-r.Context().Done()
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h, 600*time.Millisecond, nil) }()
	read := func(method, path string) <-chan string {
		out := make(chan string, 1)
		go func() {
			r, _ := http.NewRequest(method, "http://"+l.Addr().String()+path, nil)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				out <- "error"
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			out <- fmt.Sprint(string(b), err)
		}()
		<-in
		return out
	}
	stream, short, stuck := read("GET", "/stream"), read("POST", "/short"), read("POST", "/stuck")
	begin := time.Now()
	cancel()
	if got := <-short; got != "finished<nil>" {
		t.Errorf("a request within the grace: %s", got)
	}
	if <-stream; time.Since(begin) > 500*time.Millisecond {
		t.Errorf("the stream held the server for %v", time.Since(begin))
	}
	<-stuck
	if err := <-done; err != nil || time.Since(begin) > 2*time.Second {
		t.Errorf("ended after %v with %v", time.Since(begin), err)
	}
}
