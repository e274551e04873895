package spawner

import (
	"golang.org/x/sys/unix"

	"github.com/casemate/casemate/internal/contain"
	"github.com/casemate/casemate/internal/plan"
	"github.com/casemate/casemate/internal/spawn"
)

// A source is one opened grant.
type source struct {
	host  int // O_PATH, of the host's file
	stat  unix.Stat_t
	mount int // detached, or -1
	upper int // of a write grant, once the guest waits; or -1
}

// openGrants opens what is granted and, as root, makes the mounts.
func (s *server) openGrants(b *box) error {
	for _, m := range b.guest.Mounts {
		fd, st, err := contain.OpenSource(m)
		if err != nil {
			b.closeGrants()
			if short(err) {
				return err
			}
			return &spawn.Failed{Kind: "invalid", What: "cannot grant " + m.At + ": " + err.Error(), Fix: "make it readable, or change the path in the configuration and trust it again"}
		}
		src := source{host: fd, stat: st, mount: -1, upper: -1}
		b.grants = append(b.grants, src)
		if !s.own {
			continue
		}
		if src.mount, err = s.mountOf(b, fd, st, m); err != nil {
			b.closeGrants()
			return err
		}
		b.grants[len(b.grants)-1] = src
	}
	return nil
}

// openCarried opens what a contained guest's first process needs beside its
// grants, and makes, as root, the mounts of it, to which that has no way. The
// runtime must be the file that was tried.
func (s *server) openCarried(b *box) error {
	for i, path := range contain.Carried(b.guest) {
		m := plan.Mount{Source: path, Execute: true, Prefix: true}
		src, st, err := contain.OpenSource(m)
		if short(err) {
			return err
		}
		if err != nil {
			return &spawn.Failed{Kind: "unsupported", Control: string(contain.Runtime), What: "cannot make a container: " + err.Error(), Fix: "casemate doctor shows the runtimes that are there, and casemate image list the images"}
		}
		if i == 0 && contain.IDOf(st) != b.guest.File {
			unix.Close(src)
			return &spawn.Failed{Kind: "unsupported", Control: string(contain.Runtime), What: "cannot make a container: " + path + " was changed since it was tried", Fix: "start Casemate again, which tries it again; casemate doctor shows what it is"}
		}
		if !s.own {
			unix.Close(src)
			continue
		}
		fd, err := s.mountOf(b, src, st, m)
		unix.Close(src)
		if err != nil {
			return err
		}
		b.carried = append(b.carried, fd)
	}
	return nil
}

func (s *server) mountOf(b *box, fd int, st unix.Stat_t, m plan.Mount) (int, error) {
	if !m.Prefix {
		at, err := mountBelow(m.Source)
		if err != nil {
			return -1, err
		}
		if at != "" {
			return -1, &spawn.Failed{Kind: "invalid", What: "cannot grant " + m.Source + ": " + at + " is mounted in it", Fix: "grant " + at + " by itself, or not at all"}
		}
	}
	mount, err := contain.Clone(fd, m)
	if short(err) {
		return -1, err
	}
	if err != nil {
		return -1, &spawn.Failed{Kind: "unsupported", Control: "mounts", What: "cannot mount " + m.Source + ": " + err.Error(), Fix: "Linux 5.12 or newer, and CAP_SYS_ADMIN"}
	}
	ns, err := s.idmapped(idmap{st.Uid, st.Gid, b.slot})
	if err == nil {
		err = idmapMount(mount, ns)
	}
	if short(err) {
		unix.Close(mount)
		return -1, err
	}
	if err != nil && m.Write {
		unix.Close(mount)
		return -1, &spawn.Failed{Kind: "unsupported", Control: "idmapped mounts", What: "the filesystem of " + m.Source + " cannot show its files to a sandbox's own uid: " + err.Error(), Fix: "grant it read-only, or move it to ext4, xfs, btrfs or tmpfs"}
	}
	return mount, nil // a read grant that is not mapped shows what everyone may read
}

func (b *box) closeGrants() {
	b.inputs.Close() // an error where there is none
	b.inputs = nil
	for _, g := range b.grants {
		for _, fd := range []int{g.host, g.mount, g.upper} {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
	b.grants = nil
}
