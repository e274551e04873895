package runners

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/guest"
)

// outFolder is where a tool leaves the files that its result shall hold.
const outFolder = "/out"

// The bounds of what comes back of it in one call; its bytes are bounded by
// the tool's output.
const (
	maxFiles   = 64
	maxEntries = 4096
	maxDepth   = 16
)

// A stamp tells whether a file changed.
type stamp struct {
	ino   uint64
	size  int64
	ctime int64
}

// files sends the regular files of the out folder that are new or changed
// since the call before, as far as the tool's output has room after what was
// printed. No link is followed. What does not fit is named on standard error,
// never dropped silently.
func (s *server) files() error {
	if s.sent == nil {
		s.sent = map[string]stamp{}
	}
	c := collector{server: s, left: min(s.guest.Output-s.spent, guest.MaxCall-64<<10)}
	return c.folder("", 0)
}

type collector struct {
	*server
	left           int64
	files, entries int
	tooMany        bool
}

func (c *collector) folder(rel string, depth int) error {
	entries, _ := os.ReadDir(path.Join(c.out, rel))
	for _, e := range entries {
		c.entries++
		if c.entries > maxEntries {
			return c.tooManyFiles()
		}
		name := path.Join(rel, e.Name())
		var err error
		switch {
		case e.IsDir() && depth < maxDepth:
			err = c.folder(name, depth+1)
		case e.Type().IsRegular():
			err = c.file(name)
		}
		if err != nil || c.tooMany {
			return err
		}
	}
	return nil
}

func (c *collector) file(name string) error {
	// The tool's processes may still run and put something else here.
	fd, err := unix.Open(path.Join(c.out, name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	mark := stamp{st.Ino, st.Size, st.Ctim.Nano()}
	if c.sent[name] == mark {
		return nil
	}
	if c.files == maxFiles {
		return c.tooManyFiles()
	}
	if st.Size > c.left {
		return c.note(name + " (" + strconv.FormatInt(st.Size, 10) + " bytes) is left out: the whole result may have " + strconv.FormatInt(c.guest.Output, 10) + " bytes; raise output")
	}
	data := make([]byte, st.Size)
	n, _ := f.ReadAt(data, 0)
	c.sent[name] = mark
	c.files++
	c.left -= int64(n)
	return c.send(guest.File, guest.AppendPairs(nil, []guest.Pair{
		{Key: "name", Value: strings.ToValidUTF8(name, "\uFFFD")}, {Key: "mime", Value: mime(name)}, {Key: "data", Value: string(data[:n])}}))
}

func (c *collector) tooManyFiles() error {
	c.tooMany = true
	return c.note("a result has at most " + strconv.Itoa(maxFiles) + " files; the others are left out")
}

func (c *collector) note(text string) error {
	return c.send(guest.Stderr, []byte("casemate: "+c.out+": "+text+"\n"))
}

// mime is the type of a file, by its name alone: its bytes are the guest's.
func mime(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".png":
		return "image/png"
	case ".jpg", ".jpeg":
		return "image/jpeg"
	case ".gif":
		return "image/gif"
	case ".webp":
		return "image/webp"
	case ".bmp":
		return "image/bmp"
	case ".svg":
		return "image/svg+xml"
	case ".pdf":
		return "application/pdf"
	case ".json":
		return "application/json"
	case ".xml":
		return "application/xml"
	case ".zip":
		return "application/zip"
	case ".csv":
		return "text/csv"
	case ".html", ".htm":
		return "text/html"
	case ".md":
		return "text/markdown"
	case ".txt", ".log":
		return "text/plain"
	}
	return "application/octet-stream"
}
