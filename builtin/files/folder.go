package files

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// The bounds of what a folder may cost.
const (
	maxListed  = 1000
	maxNames   = 100_000 // read of one folder
	maxResults = 200
	maxSeen    = 100_000
	maxDepth   = 64
	maxSearch  = 10 * time.Second
	maxLine    = 300 // bytes of a line that is shown
	maxScan    = 4 << 20
)

// folder opens the folder at p.
func folder(p place) (int, error) {
	dir, name, err := p.parent(false)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	fd, err := openFolder(dir, name, unix.O_RDONLY)
	return fd, explain(p.path, err)
}

// names returns the names in the folder fd, sorted, and closes a copy of fd.
func names(fd int) ([]string, error) {
	dup, err := openFolder(fd, ".", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "")
	defer f.Close()
	ns, err := f.Readdirnames(maxNames)
	if err == io.EOF {
		err = nil
	}
	slices.Sort(ns)
	return ns, err
}

func list(c *call, p place) (string, error) {
	fd, err := folder(p)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	ns, err := names(fd)
	if err != nil {
		return "", errors.New(p.path + ": cannot be read")
	}
	if len(ns) == 0 {
		return p.path + " is empty\n", nil
	}
	var b strings.Builder
	for i, n := range ns {
		if i == maxListed {
			b.WriteString("… and " + strconv.Itoa(len(ns)-i) + " more; search_files finds some by a pattern\n")
			break
		}
		var st unix.Stat_t
		if unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // gone meanwhile
		}
		b.WriteString(shown(n) + "\t" + kind(st) + "\t" + strconv.FormatInt(st.Size, 10) + "\n")
	}
	return b.String(), nil
}

func kind(st unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "folder"
	case unix.S_IFLNK:
		return "link"
	}
	return "other"
}

// shown is a name as a line can hold it: quoted where it has control bytes or
// is no text, so that no name can pass for two.
func shown(name string) string {
	if utf8.ValidString(name) && strings.IndexFunc(name, unicode.IsControl) < 0 {
		return name
	}
	return strconv.Quote(name)
}

// A searcher walks the folders of one search.
type searcher struct {
	pattern string
	byPath  bool // pattern has a slash: it is matched with the path from the start
	text    []byte
	out     strings.Builder
	results int
	seen    int
	end     time.Time
	stopped string // why it stopped early
}

func search(c *call, p place) (string, error) {
	s := &searcher{pattern: "*", end: time.Now().Add(maxSearch)}
	if v, ok := guest.Get(c.args, "pattern"); ok && v != "" {
		s.pattern = strings.TrimPrefix(v, "/")
	}
	if _, err := path.Match(s.pattern, ""); err != nil {
		return "", errors.New("the argument pattern is malformed; * stands for any characters, ? for one, [a-z] for one of a range")
	}
	s.byPath = strings.Contains(s.pattern, "/")
	if v, ok := guest.Get(c.args, "text"); ok {
		s.text = []byte(v)
	}
	fd, err := folder(p)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	s.walk(fd, p.path, "", 0)
	if s.stopped != "" {
		s.out.WriteString("… stopped: " + s.stopped + "; narrow path, pattern or text\n")
	} else if s.results == 0 {
		return "nothing found\n", nil
	}
	return s.out.String(), nil
}

// walk searches the folder fd, whose path is at, and rel from the start.
func (s *searcher) walk(fd int, at, rel string, depth int) {
	ns, _ := names(fd)
	for _, n := range ns {
		s.seen++
		switch {
		case s.seen > maxSeen:
			s.stopped = strconv.Itoa(maxSeen) + " files were looked at"
		case s.results >= maxResults:
			s.stopped = "there are more than " + strconv.Itoa(maxResults) + " results"
		case time.Now().After(s.end):
			s.stopped = "10 seconds are over"
		}
		if s.stopped != "" {
			return
		}
		var st unix.Stat_t
		if unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		here, from := path.Join(at, n), path.Join(rel, n)
		s.one(fd, n, here, from, st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if depth == maxDepth {
				s.stopped = shown(here) + " is too deep"
				return
			}
			if sub, err := openFolder(fd, n, unix.O_RDONLY); err == nil {
				s.walk(sub, here, from, depth+1)
				unix.Close(sub)
			}
		}
	}
}

// one takes the file or folder n into the result if it matches.
func (s *searcher) one(dir int, n, here, from string, st unix.Stat_t) {
	subject := n
	if s.byPath {
		subject = from
	}
	if ok, _ := path.Match(s.pattern, subject); !ok {
		return
	}
	if len(s.text) == 0 {
		s.out.WriteString(shown(here))
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			s.out.WriteByte('/')
		}
		s.out.WriteByte('\n')
		s.results++
		return
	}
	if regular(st) == nil {
		s.lines(dir, n, here)
	}
}

// lines takes the lines of a text file that hold the text.
func (s *searcher) lines(dir int, n, here string) {
	f, _, err := openFile(dir, n, here)
	if err != nil {
		return
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxScan))
	if err != nil || bytes.IndexByte(b[:min(len(b), 8192)], 0) >= 0 {
		return // binary
	}
	for at := 0; s.results < maxResults; {
		i := bytes.Index(b[at:], s.text)
		if i < 0 {
			return
		}
		l, number := line(b, at+i)
		if len(l) > maxLine {
			l = append(slices.Clip(l[:maxLine]), "…"...)
		}
		s.out.WriteString(shown(here) + ":" + strconv.Itoa(number) + ": " + strings.ToValidUTF8(string(l), "\uFFFD") + "\n")
		s.results++
		next := bytes.IndexByte(b[at+i:], '\n')
		if next < 0 {
			return
		}
		at += i + next + 1
	}
}
