package api

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzPrint: what was printed comes as send would send it.
func FuzzPrint(f *testing.F) {
	for _, s := range []string{"", "text\n", "\"\\\r\t\x00\x1f\x7f</>&", "\u2028a\u2029\u00a8\u00e9\u4028", "\xff", "\xe2\x80", "a\xa8", "日本語 \U0001F600"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		was := bytes.Clone(b)
		w := httptest.NewRecorder()
		s := newEvents(w)
		for range 2 { // in the same buffer
			if err := s.print(2, b); err != nil {
				t.Fatal(err)
			}
		}
		one, two, _ := strings.Cut(w.Body.String(), "\n\n")
		data, ok := strings.CutPrefix(one, "event: stderr\ndata: ")
		if !ok || two != one+"\n\n" || strings.ContainsAny(data, "\r\n\u2028\u2029") || !bytes.Equal(was, b) {
			t.Fatalf("%q was sent as %q", b, w.Body)
		}
		var got, want piece
		e, err := json.Marshal(dataOf(b))
		if err == nil {
			err = json.Unmarshal(e, &want)
		}
		if err == nil {
			err = json.Unmarshal([]byte(data), &got)
		}
		if err != nil || (got.Text == nil) != (want.Text == nil) || got.Text != nil && *got.Text != *want.Text || !bytes.Equal(got.Base64, want.Base64) {
			t.Fatalf("%q was sent as %q: %v", b, data, err)
		}
	})
}
