package api

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestFiles(t *testing.T) {
	s := newServer(t, 0)
	const at = "/v1/sessions/s/files?path="
	big := strings.Repeat("0123456789abcdef", 1<<16) + "\x00\xff"
	for _, c := range []struct {
		method, path, body string
		want               int
		has                string
	}{
		{"GET", at + "a.txt", "", 404, `"code":"file_not_found"`},
		{"PUT", at + "a.txt", "alpha\x00", 200, `"status":"done"`},
		{"GET", at + "a.txt", "", 200, "alpha\x00"},
		{"PUT", at + "a.txt", "", 200, `"status":"done"`},
		{"GET", at + "a.txt", "", 200, ""},
		{"PUT", at + "sub/big", big, 200, ""},
		{"GET", at + "sub/big", "", 200, big},
		{"GET", at + "sub/big&stat=1", "", 200, fmt.Sprintf(`"name":"big","kind":"file","size":%d`, len(big))},
		{"GET", at + "sub&list=1", "", 200, `"entries":[{"name":"big"`},
		{"GET", at + "a.txt&list=1", "", 409, `"code":"not_a_directory"`},
		{"GET", at + "a.txt&list=2", "", 400, "list"},
		{"PUT", at + "sub", "x", 409, `"code":"is_directory"`},
		{"PUT", at + "denied/x", "x", 403, `"code":"permission_denied"`},
		{"GET", at, "", 400, `"code":"invalid_path"`},
		{"GET", at + strings.Repeat("x", maxPath+1), "", 400, `"code":"invalid_path"`},
		{"GET", at + "a%00b", "", 400, `"code":"invalid_path"`},
		{"GET", at + "a.txt&tool=nope", "", 400, "nope"},
		{"GET", at + "a.txt&tool=run", "", 400, "scope: session"},
		{"GET", at + "a.txt&tool=", "", 400, "tool"},
		{"GET", at + "a.txt&tool=kept", "", 200, ""},
		{"DELETE", at + "a.txt", "", 200, `"status":"done"`},
		{"DELETE", at + "a.txt", "", 404, `"code":"file_not_found"`},
		{"GET", "/v1/sessions/other/files?path=sub/big", "", 404, "file_not_found"},
		{"GET", "/v1/sessions/a%20b/files?path=x", "", 400, "session"},
	} {
		code, got, err := s.do(t.Context(), c.method, c.path, c.body, "Content-Type", "application/octet-stream")
		if err != nil || code != c.want || !strings.Contains(got, c.has) || strings.HasPrefix(c.has, "alpha") && got != c.has || c.has == big && got != big {
			t.Errorf("%s %.60s: %d %.200s %v\nwant %d %.60s", c.method, c.path, code, got, err, c.want, c.has)
		}
	}
	for path, want := range map[string]int{"sub/big": 200, "nope": 404, "denied/x": 403} {
		r, _ := http.NewRequest("HEAD", s.url+at+path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		if err != nil || res.StatusCode != want || res.Header.Get(receiptHeader) == "" || want == 200 && (res.ContentLength != int64(len(big)) || res.Header.Get("Casemate-File") != "file") {
			t.Errorf("%s: %v %v", path, res, err)
		}
	}
}

func TestManyFiles(t *testing.T) {
	s := newServer(t, 0)
	const at = "/v1/sessions/s/files"
	type done struct {
		Files []struct {
			Path, Receipt string
			Data          *[]byte
			Entries       []entry
			Error         *problem
		}
	}
	b64 := base64.StdEncoding.EncodeToString
	var d done
	code := s.get("POST", at, fmt.Sprintf(`{"files":[{"path":"d/a","data":%q},{"path":"d/b","data":""},{"path":"d","data":%[1]q},{"path":"denied/x","data":%[1]q},{"path":"","data":""},
		{"path":"d/a","op":"read"},{"path":"d/b","op":"read"},{"path":"nope","op":"read"},{"path":"d","op":"list"},{"path":"d/a","op":"stat"},{"path":"d/b","op":"remove"}]}`, b64([]byte("A\xff"))), &d)
	if code != 200 || len(d.Files) != 11 {
		t.Fatal(code, d)
	}
	for i, want := range []string{"", "", "is_directory", "permission_denied", "invalid_path", "", "", "file_not_found", "", "", ""} {
		f := d.Files[i]
		if got := map[bool]string{true: ""}[f.Error == nil]; f.Error != nil && f.Error.Code != want || f.Error == nil && got != want || f.Receipt == "" && want != "invalid_path" {
			t.Errorf("%d %s: %+v, want %q", i, f.Path, f.Error, want)
		}
	}
	if string(*d.Files[5].Data) != "A\xff" || d.Files[6].Data == nil || len(*d.Files[6].Data) != 0 || len(d.Files[8].Entries) != 2 || d.Files[9].Entries[0].Size != 2 {
		t.Errorf("%+v", d)
	}
	// A form, whose last part is broken off.
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, name := range []string{"f/one", "denied/two", "f/three"} {
		p, _ := w.CreateFormField(name)
		io.WriteString(p, strings.Repeat(name, 20_000))
	}
	w.Close()
	d = done{}
	if code := s.get("POST", at, form.String(), &d, "Content-Type", w.FormDataContentType()); code != 200 || len(d.Files) != 3 || d.Files[0].Error != nil || d.Files[1].Error == nil || d.Files[2].Error != nil {
		t.Errorf("%d %+v", code, d)
	}
	if _, got, _ := s.do(t.Context(), "GET", at+"?path=f/three", ""); got != strings.Repeat("f/three", 20_000) {
		t.Error(len(got))
	}
	cut := form.String()[:form.Len()-60_000]
	if code := s.get("POST", at, cut, nil, "Content-Type", w.FormDataContentType()); code != 400 {
		t.Errorf("a form that is cut short: %d", code)
	}
	if code := s.get("GET", at+"?path=f/three", "", nil); code != 404 {
		t.Errorf("half a file is there: %d", code)
	}
	// What is read together is bounded, and the guest lives.
	s.get("PUT", at+"?path=big", strings.Repeat("x", 5<<20), nil)
	d = done{}
	if s.get("POST", at, `{"files":[{"path":"big","op":"read"},{"path":"big","op":"read"},{"path":"d/a","op":"read"}]}`, &d); len(*d.Files[0].Data) != 5<<20 || d.Files[1].Error.Code != "too_large" || string(*d.Files[2].Data) != "A\xff" {
		t.Errorf("%d files", len(d.Files))
	}
	for _, body := range []string{`{}`, `{"files":[]}`, `{"files":{}}`, `{"files":[{"path":"a"}]}`, `{"files":[{"path":"a","data":"!"}]}`, `{"files":[{"path":"a","op":"read","data":""}]}`,
		`{"files":[{"path":"a","op":"chmod"}]}`, `{"files":[{"path":"a","data":"","mode":1}]}`, `{"files":[null]}`, `{"files":[` + strings.Repeat(`{"path":"a","op":"stat"},`, maxMany) + `{"path":"a","op":"stat"}]}`} {
		if code := s.get("POST", at, body, nil); code != 400 {
			t.Errorf("%.80s: %d", body, code)
		}
	}
}

// TestUploadBreaksOff: half a file is no file, and the session lives.
func TestUploadBreaksOff(t *testing.T) {
	s := newServer(t, 0)
	s.post(`{"tool":"kept","session":"s","arguments":{"code":"set HERE"}}`)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PUT /v1/sessions/s/files?path=half HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", strings.TrimPrefix(s.url, "http://"), token)
	conn.(*net.TCPConn).CloseWrite()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 400 {
		t.Fatal(res, err)
	}
	conn.Close()
	if code := s.get("GET", "/v1/sessions/s/files?path=half", "", nil); code != 404 {
		t.Errorf("half a file is there: %d", code)
	}
	if _, body := s.post(`{"tool":"kept","session":"s","arguments":{"code":"get"}}`); !strings.Contains(body, "kept HERE") {
		t.Error(body)
	}
	// One that is refused before it is through is answered at once.
	pr, pw := io.Pipe()
	go func() { pw.Write([]byte("x")) }()
	r, _ := http.NewRequest("PUT", s.url+"/v1/sessions/s/files?path=denied/x", pr)
	r.Header.Set("Authorization", "Bearer "+token)
	res, err = http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != 403 {
		t.Errorf("%v %v", res, err)
	}
	pw.Close()
}

// TestFilesNeedOneTool: the tool may be left out only where it can be no other.
func TestFilesNeedOneTool(t *testing.T) {
	s := newServer(t, 0)
	two := *s.tools(t)["kept"]
	two.Name = "more"
	s.reload(t, &two)
	put := func(session string) int {
		return s.get("PUT", "/v1/sessions/"+session+"/files?path=a", "x", nil)
	}
	if code := put("s"); code != 400 {
		t.Errorf("with two tools: %d", code)
	}
	s.post(`{"tool":"more","session":"s","arguments":{"code":"print x"}}`)
	if code := put("s"); code != 200 {
		t.Errorf("after a call of one: %d", code)
	}
	s.post(`{"tool":"kept","session":"s","arguments":{"code":"print x"}}`)
	if code := put("s"); code != 400 {
		t.Errorf("after calls of both: %d", code)
	}
	if code := s.get("GET", "/v1/sessions/s/files?path=a&tool=more", "", nil); code != 200 {
		t.Errorf("by its name: %d", code)
	}
	// A caller that may call one of them means that one.
	if code := s.get("PUT", "/v1/sessions/s/files?path=a", "x", nil, "Authorization", "Bearer the-token-of-the-reader"); code != 200 {
		t.Errorf("of a caller with one: %d", code)
	}
	var list struct{ Sessions []json.RawMessage }
	if s.get("GET", "/v1/sessions", "", &list); len(list.Sessions) != 1 {
		t.Errorf("%s", list.Sessions)
	}
}
