package files

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// open opens the regular file at p for reading.
func open(p place) (*os.File, unix.Stat_t, error) {
	dir, name, err := p.parent(false)
	if err != nil {
		return nil, unix.Stat_t{}, err
	}
	defer unix.Close(dir)
	return openFile(dir, name, p.path)
}

func openFile(dir int, name, path string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	// Not blocking: a FIFO would wait for its other end.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, explain(path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err = unix.Fstat(fd, &st); err == nil {
		err = regular(st)
	}
	if err != nil {
		f.Close()
		return nil, st, explain(path, err)
	}
	return f, st, nil
}

func regular(st unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		return unix.EISDIR
	case unix.S_IFLNK:
		return unix.ELOOP
	}
	return errors.New(notRegular)
}

func read(c *call, p place) (string, error) {
	first, err := c.number("offset", 1)
	if err != nil {
		return "", err
	}
	count, err := c.number("limit", 0)
	if err != nil {
		return "", err
	}
	f, st, err := open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, lines, err := slice(f, first, count)
	switch {
	case err == errTooLong:
		return "", errors.New(p.path + ": has " + strconv.FormatInt(st.Size, 10) + " bytes, and at most " + strconv.Itoa(maxText) + " are read at once; read a part, by offset and limit (in lines)")
	case err != nil:
		return "", explain(p.path, errors.Unwrap(err))
	case !utf8.Valid(text):
		return "", errors.New(p.path + ": is not text in UTF-8 but binary, of " + strconv.FormatInt(st.Size, 10) + " bytes; these tools read text")
	case first > 1 && first > lines:
		return "", errors.New(p.path + ": has " + strconv.Itoa(lines) + " lines; give an offset up to that")
	}
	return string(text), nil
}

var errTooLong = errors.New("too long")

// slice returns count lines of r (0: all) from the first on, and the number
// of lines up to the last that it looked at.
func slice(r io.Reader, first, count int) (text []byte, line int, err error) {
	b := bufio.NewReaderSize(r, 64<<10)
	for line = 1; ; {
		part, err := b.ReadSlice('\n')
		if line >= first {
			if len(text)+len(part) > maxText {
				return nil, 0, errTooLong
			}
			text = append(text, part...)
		}
		switch {
		case err == nil:
			if line++; count > 0 && line-first >= count {
				return text, line, nil
			}
		case err == io.EOF:
			if len(part) == 0 {
				line-- // the line that a last newline would begin is none
			}
			return text, line, nil
		case err != bufio.ErrBufferFull:
			return nil, 0, err
		}
	}
}

func write(c *call, p place) (string, error) {
	content, err := c.need("content")
	if err != nil {
		return "", err
	}
	if err := replace(p, content); err != nil {
		return "", err
	}
	return "wrote " + strconv.Itoa(len(content)) + " bytes to " + p.path, nil
}

func edit(c *call, p place) (string, error) {
	old, err := c.need("old")
	if err != nil {
		return "", err
	}
	fresh, err := c.need("new")
	if err != nil {
		return "", err
	}
	if old == "" {
		return "", errors.New("the argument old is empty; give the text to replace, or use write_file")
	}
	text, err := read(&call{args: []guest.Pair{}}, p)
	if err != nil {
		return "", err
	}
	switch n := strings.Count(text, old); n {
	case 1:
	case 0:
		return "", errors.New(p.path + ": the text to replace is not there; read_file shows what is, and white space counts")
	default:
		return "", errors.New(p.path + ": the text to replace stands " + strconv.Itoa(n) + " times; give more of what is around it, so that it stands once")
	}
	at := strings.Index(text, old)
	if err := replace(p, text[:at]+fresh+text[at+len(old):]); err != nil {
		return "", err
	}
	return "edited " + p.path + " at line " + strconv.Itoa(1+strings.Count(text[:at], "\n")), nil
}

// replace gives the file at p that content, in one step: whoever looks sees
// the old content or the new. Only a file that is a grant by itself, and so
// a mount, is written in place.
func replace(p place, content string) error {
	dir, name, err := p.parent(true)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	mode := uint32(0o644)
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		if err := regular(st); err != nil {
			return explain(p.path, err)
		}
		mode = st.Mode & 0o777
	case err != unix.ENOENT:
		return explain(p.path, err)
	}
	if p.path == p.mount.At {
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return explain(p.path, err)
		}
		return explain(p.path, fill(fd, content))
	}
	// The name is not one that a person gives; the folder is the tool's own
	// view, in which nobody else writes.
	temp, fd := "", -1
	err = unix.EEXIST
	for i := 0; err == unix.EEXIST && i < 10; i++ {
		temp = ".casemate-" + strconv.Itoa(unix.Getpid()) + "-" + strconv.Itoa(i) + ".tmp"
		fd, err = unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return explain(p.path, err)
	}
	if err = unix.Fchmod(fd, mode); err != nil {
		unix.Close(fd)
	} else if err = fill(fd, content); err == nil {
		err = unix.Renameat(dir, temp, dir, name)
	}
	if err != nil {
		unix.Unlinkat(dir, temp, 0)
	}
	return explain(p.path, err)
}

// fill writes content and closes fd.
func fill(fd int, content string) error {
	f := os.NewFile(uintptr(fd), "")
	_, err := io.Copy(f, strings.NewReader(content))
	if e := f.Close(); err == nil {
		err = e
	}
	if pe, ok := err.(*os.PathError); ok {
		err = pe.Err
	}
	return err
}

// line returns the line of text at offset at, and its number.
func line(text []byte, at int) ([]byte, int) {
	from := bytes.LastIndexByte(text[:at], '\n') + 1
	to := len(text)
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		to = at + i
	}
	return text[from:to], 1 + bytes.Count(text[:at], []byte("\n"))
}
