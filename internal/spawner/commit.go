package spawner

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/codec"
	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/merge"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// stamps is what the merges of one grant of a session have settled, in
// merge's encoding.
type stamps []byte

// mergeTime bounds one merge; over it nothing more is carried.
const mergeTime = 2 * time.Minute

// commit carries what a sandbox wrote to the host. The guest is dead, or
// stopped for as long as it takes where it serves a session.
func (s *server) commit(c *spawn.Conn, m *spawn.Message) {
	b := s.boxOf(m.Commit.ID)
	s.mu.Lock()
	host := s.plan.Host
	s.mu.Unlock()
	if b == nil {
		s.reply(c, m, refuse("invalid", "no such sandbox"))
		return
	}
	changes, err := s.commitBox(b, host, m.Commit)
	if err != nil {
		s.reply(c, m, err)
		return
	}
	const most = 200 // what one message holds for certain
	if len(changes) > most {
		n := len(changes) - most
		changes = append(changes[:most], spawn.Change{Did: "more", Why: strconv.Itoa(n) + " further changes"})
	}
	if err := c.Send(&spawn.Message{Op: spawn.OpCommitted, Seq: m.Seq, Changes: shorten(changes)}); err != nil {
		s.reply(c, m, err)
	}
}

// shorten keeps an answer within one message: paths come from the guest.
func shorten(cs []spawn.Change) []spawn.Change {
	room := spawn.MaxPacket - 1024
	for i, c := range cs {
		room -= len(c.Path) + len(c.Host) + len(c.Did) + len(c.Why) + len(c.Kept) + 20
		if room < 0 {
			return append(cs[:i], spawn.Change{Did: "more", Why: strconv.Itoa(len(cs)-i) + " further changes"})
		}
	}
	return cs
}

func (s *server) commitBox(b *box, host plan.Host, r spawn.Commit) (out []spawn.Change, err error) {
	if !goodCall(r.Call) {
		return nil, refuse("invalid", "malformed call id")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.grants == nil || !writes(b.guest) {
		return nil, nil
	}
	if b.guest.Session {
		if b.thaw() == nil && b.stop() { // what is frozen cannot answer
			defer b.resume()
		} else { // it ended meanwhile, or must: what it wrote counts all the same
			b.kill()
			<-b.gone
		}
	} else {
		b.kill()
		<-b.gone
	}
	s.commits.Lock()
	defer s.commits.Unlock()
	// The router says when the call began. It cannot say the future, which would
	// hide every conflict; a time that is too early only makes more of them.
	since := min(r.Since, coarse())
	for i, m := range b.guest.Mounts {
		if !m.Write {
			continue
		}
		cs, err := s.mergeGrant(b, i, host, r.Call, since)
		out = append(out, cs...) // what was done stays done
		if err != nil {
			out = append(out, spawn.Change{Path: m.At, Host: m.Source, Did: merge.Held, Why: "the rest was not carried over: " + err.Error()})
		}
	}
	return out, nil
}

func writes(g plan.Guest) bool {
	for _, m := range g.Mounts {
		if m.Write {
			return true
		}
	}
	return false
}

// goodCall keeps call ids, which come from the router, single path elements.
func goodCall(id string) bool {
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_') {
			return false
		}
	}
	return len(id) > 2 && len(id) <= 64
}

func (s *server) mergeGrant(b *box, i int, host plan.Host, call string, since int64) ([]spawn.Change, error) {
	m, g := b.guest.Mounts[i], b.grants[i]
	folder := filepath.Join(host.Store, call)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	keepPath := filepath.Join(folder, strconv.Itoa(i))
	keep, err := makeKeep(keepPath, g.stat, s.own)
	if err != nil {
		return nil, err
	}
	defer unix.Close(keep)
	w := &codec.Writer{}
	w.String(m.Source)
	w.String(m.At)
	if err := os.WriteFile(keepPath+".grant", w.B, 0o600); err != nil {
		return nil, err
	}
	req := &mergeRequest{HostPath: m.Source, At: m.At, Names: m.Names, Pinned: m.Pinned, Since: since, Known: b.stamps[m.At]}
	reply, err := s.mergeProcess(req, g.stat, g.upper, g.host, keep)
	if err != nil {
		return nil, err
	}
	b.stamps[m.At] = stamps(reply.known)
	os.Remove(keepPath) // only where nothing was kept
	if reply.err != "" {
		err = errors.New(reply.err)
	}
	return onHost(reply.changes, m), err
}

func onHost(cs []merge.Change, m plan.Mount) (out []spawn.Change) {
	for _, c := range cs {
		rel, err := filepath.Rel(m.At, c.Path)
		if err != nil {
			rel = c.Path
		}
		out = append(out, spawn.Change{Path: c.Path, Host: filepath.Join(m.Source, rel), Did: c.Did, Why: c.Why, Kept: c.Kept})
	}
	return out
}

// makeKeep makes the folder of what a merge keeps; it belongs to whoever the
// merge runs as.
func makeKeep(path string, st unix.Stat_t, own bool) (int, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return -1, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if own {
		if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// A mergeRequest is what a merge process is told; Undo takes a call back.
type mergeRequest struct {
	Undo          bool
	Foreign       bool // the upper layer belongs to another uid
	HostPath, At  string
	Names, Pinned []string
	Since         int64
	Known         []byte
}

func (r *mergeRequest) encode() []byte {
	w := &codec.Writer{}
	w.Bool(r.Undo)
	w.Bool(r.Foreign)
	w.String(r.HostPath)
	w.String(r.At)
	w.Strings(r.Names)
	w.Strings(r.Pinned)
	w.Int(r.Since)
	w.String(string(r.Known))
	return w.B
}

func decodeMergeRequest(b []byte) (*mergeRequest, error) {
	r := &codec.Reader{B: b}
	q := &mergeRequest{r.Bool(), r.Bool(), r.String(), r.String(), r.Strings(), r.Strings(), r.Int(), []byte(r.String())}
	return q, r.End()
}

type mergeReply struct {
	err     string
	changes []merge.Change
	known   []byte
}

func (r *mergeReply) encode() []byte {
	w := &codec.Writer{}
	w.String(r.err)
	w.String(string(merge.EncodeChanges(r.changes)))
	w.String(string(r.known))
	return w.B
}

func decodeMergeReply(b []byte) (*mergeReply, error) {
	r := &codec.Reader{B: b}
	out := &mergeReply{err: r.String()}
	cs, err := merge.DecodeChanges([]byte(r.String()))
	if err != nil {
		return nil, err
	}
	out.changes, out.known = cs, []byte(r.String())
	return out, r.End()
}

// The descriptors of a merge process: its request and its answer are files in
// memory, so that neither side can block the other.
const (
	mergeRequestFD = 3 + iota
	mergeReplyFD
	mergeUpperFD
	mergeHostFD
	mergeKeepFD
)

// maxReply bounds what is read back.
const maxReply = 64 << 20

// mergeProcess runs one merge, as the owner of the granted folder.
func (s *server) mergeProcess(q *mergeRequest, st unix.Stat_t, upper, host, keep int) (*mergeReply, error) {
	q.Foreign = s.own
	in, err := memory("request", q.encode())
	if err != nil {
		return nil, err
	}
	defer in.Close()
	outFile, err := memory("reply", nil)
	if err != nil {
		return nil, err
	}
	defer outFile.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := []*os.File{null, null, os.Stderr, in, outFile}
	for _, fd := range []int{upper, host, keep} {
		if fd < 0 {
			files = append(files, null)
			continue
		}
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeFiles(files[5:])
			return nil, err
		}
		files = append(files, os.NewFile(uintptr(dup), "grant"))
	}
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if s.own {
		attr.Credential = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
		// The upper layer belongs to the sandbox's uid: this reads it, and
		// Landlock keeps it to that.
		attr.AmbientCaps = []uintptr{unix.CAP_DAC_READ_SEARCH}
	}
	p, err := s.fork("merge", &os.ProcAttr{Files: files, Env: []string{}, Dir: "/", Sys: attr}, nil)
	closeFiles(files[5:])
	if err != nil {
		return nil, err
	}
	timer := time.AfterFunc(mergeTime, func() { p.Kill() })
	state, err := p.Wait()
	timer.Stop()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(outFile, 0, maxReply))
	if err != nil {
		return nil, err
	}
	if !state.Success() && len(b) == 0 {
		return nil, errors.New("the merge ended with " + state.String())
	}
	reply, err := decodeMergeReply(b)
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func memory(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// undo takes back what a call wrote, where the host still has it as the call
// left it.
func (s *server) undo(c *spawn.Conn, m *spawn.Message) {
	s.mu.Lock()
	host := s.plan.Host
	s.mu.Unlock()
	if !goodCall(m.Line) {
		s.reply(c, m, refuse("invalid", "malformed call id"))
		return
	}
	s.commits.Lock()
	defer s.commits.Unlock()
	folder := filepath.Join(host.Store, m.Line)
	grants, _ := filepath.Glob(filepath.Join(folder, "*.grant"))
	if len(grants) == 0 {
		s.reply(c, m, &spawn.Failed{Kind: "invalid", What: "nothing is kept of " + m.Line, Fix: "casemate log lists the calls; a call without a write grant has nothing to take back"})
		return
	}
	var out []spawn.Change
	for _, path := range grants {
		cs, err := s.undoGrant(path)
		if err != nil {
			s.reply(c, m, err)
			return
		}
		out = append(out, cs...)
	}
	if err := c.Send(&spawn.Message{Op: spawn.OpCommitted, Seq: m.Seq, Changes: shorten(out)}); err != nil {
		s.reply(c, m, err)
	}
}

func (s *server) undoGrant(path string) ([]spawn.Change, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &codec.Reader{B: b}
	m := plan.Mount{Source: r.String(), At: r.String(), Write: true}
	if err := r.End(); err != nil {
		return nil, err
	}
	keep, err := unix.Open(path[:len(path)-len(".grant")], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil // this grant had no change
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(keep)
	host, st, err := contain.OpenSource(m)
	if err != nil {
		return nil, err
	}
	defer unix.Close(host)
	reply, err := s.mergeProcess(&mergeRequest{Undo: true, HostPath: m.Source, At: m.At}, st, -1, host, keep)
	if err != nil {
		return nil, err
	}
	if reply.err != "" {
		err = errors.New(reply.err)
	}
	return onHost(reply.changes, m), err
}

// stop stops every process of a guest that serves a session, and says whether
// it could; b.mu is held.
func (b *box) stop() bool {
	fd := int(b.setup.Fd())
	if unix.Sendto(fd, []byte(contain.Stop), unix.MSG_NOSIGNAL, nil) != nil {
		return false
	}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	buf := make([]byte, 16)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	for err == unix.EINTR { // as in contain
		n, _, err = unix.Recvfrom(fd, buf, 0)
	}
	return err == nil && string(buf[:max(n, 0)]) == contain.Stopped
}

func (b *box) resume() {
	unix.Sendto(int(b.setup.Fd()), []byte(contain.Go), unix.MSG_NOSIGNAL, nil)
}
