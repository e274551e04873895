package main

import (
	"fmt"
	"io"
	"mime"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/casemate/casemate"
)

// result prints the text of a result as it is, and says what else there is.
func (a *app) result(r *casemate.Result, folder string) error {
	text, last := false, byte('\n')
	for _, c := range r.Content {
		if c.Type != "text" {
			continue
		}
		if text && last != '\n' && c.Text != "" {
			io.WriteString(a.out, "\n") // each part begins a line
		}
		text = true
		if err := a.text(c.Text); err != nil {
			return err
		}
		if c.Text != "" {
			last = c.Text[len(c.Text)-1]
		}
	}
	if !text && len(r.Structured) > 0 {
		if err := a.object(r.Structured); err != nil {
			return err
		}
	}
	if a.outTTY && last != '\n' {
		io.WriteString(a.out, "\n") // the prompt on a line of its own
	}
	return a.files(r, folder)
}

// files writes the images and files of a result into folder, or says what
// they are where none is named.
func (a *app) files(r *casemate.Result, folder string) error {
	n := 0
	for _, c := range r.Content {
		if c.Type == "text" {
			continue
		}
		n++
		data := c.Data
		if data == nil {
			data = []byte(c.Text)
		}
		what := fmt.Sprintf("%s, %s", escapeLine(c.MimeType), size(int64(len(data))))
		if folder == "" {
			a.note("%s (--out DIR writes it)", what)
			continue
		}
		name, err := writeNew(folder, fileName(c, n), data)
		if err != nil {
			return &casemate.Error{Op: "write result", Kind: casemate.Internal, Err: err, Fix: "name a folder that exists and that you may write by --out"}
		}
		a.note("%s: %s", what, name)
	}
	return nil
}

// fileName is what a part of a result is called on the host: the last
// component of its name where that is plain, else one of ours. A tool chose
// it: it has no folder, no leading dot and nothing that a terminal or a
// shell would take for more than a name.
func fileName(c casemate.Content, n int) string {
	name := path.Base(c.URI)
	plain := len(name) <= 100 && c.URI != "" && strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}) < 0 && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "-") && name != "/"
	if plain {
		return name
	}
	ext := map[string]string{"image/png": ".png", "image/jpeg": ".jpg", "image/svg+xml": ".svg", "image/gif": ".gif", "image/webp": ".webp", "text/plain": ".txt"}[mediaType(c.MimeType)]
	return fmt.Sprintf("part-%d%s", n, ext)
}

func mediaType(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil {
		return ""
	}
	return t
}

// writeNew writes data to a new file of folder called name, or name with a
// number; it follows and replaces nothing.
func writeNew(folder, name string, data []byte) (string, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return "", err
	}
	defer root.Close()
	ext := filepath.Ext(name)
	for i := range 1000 {
		try := name
		if i > 0 {
			try = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, ext), i, ext)
		}
		f, err := root.OpenFile(try, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if os.IsExist(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = f.Write(data)
		if e := f.Close(); err == nil {
			err = e
		}
		return filepath.Join(folder, try), err
	}
	return "", fmt.Errorf("%s: there are a thousand files of that name", name)
}
