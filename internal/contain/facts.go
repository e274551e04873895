package contain

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The system folders that programs need, read-only. Nothing of /home, /root,
// /var, /run, /opt, /srv, /mnt or /sys is there unless it is granted.
var systemFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"}

// What programs need of the host's /etc to start: the dynamic linker's cache,
// Debian's alternatives (awk, java), certificates, fonts, time zone, and the
// tables of names. No file here holds a secret: /etc/ssl/private stays out.
var systemFiles = []string{
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/timezone",
	"/etc/mime.types", "/etc/services", "/etc/protocols", "/etc/magic", "/etc/inputrc", "/etc/fonts",
	"/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/ca-certificates.conf", "/etc/pki/tls/certs", "/etc/pki/ca-trust",
	"/etc/java-11-openjdk", "/etc/java-17-openjdk", "/etc/java-21-openjdk", "/etc/java-25-openjdk", "/etc/python3", "/etc/perl",
}

// What of /proc tells about the host and is readable by everyone there. The
// counts of interrupts and the pressure tell when somebody types, or works.
var masks = []string{
	"/proc/acpi", "/proc/asound", "/proc/bus", "/proc/cmdline", "/proc/config.gz", "/proc/consoles", "/proc/driver", "/proc/fs", "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/irq", "/proc/kallsyms",
	"/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/latency_stats", "/proc/locks", "/proc/modules", "/proc/partitions", "/proc/diskstats", "/proc/pressure",
	"/proc/sched_debug", "/proc/schedstat", "/proc/scsi", "/proc/softirqs", "/proc/swaps", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats", "/proc/tty",
}

// Masks are the paths of /proc that are hidden, where they exist.
func Masks() []string { return append([]string{}, masks...) }

// ReadFacts reads what a plan needs of this host. It follows no link of a
// system folder, but repeats it.
func ReadFacts() Facts {
	var f Facts
	for _, p := range append(append([]string{}, systemFolders...), systemFiles...) {
		var st unix.Stat_t
		if unix.Lstat(p, &st) != nil {
			continue
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			if t, err := os.Readlink(p); err == nil {
				f.System = append(f.System, Entry{Path: p, Target: t})
			}
		case unix.S_IFDIR:
			f.System = append(f.System, Entry{Path: p, Folder: true})
		case unix.S_IFREG:
			f.System = append(f.System, Entry{Path: p})
		}
	}
	f.TTY = unix.Access("/dev/tty", unix.F_OK) == nil
	for _, m := range masks {
		var st unix.Stat_t
		if unix.Lstat(m, &st) != nil {
			continue
		}
		f.Masks = append(f.Masks, m)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			f.Folders = append(f.Folders, m)
		}
	}
	return f
}

// maxNames bounds what is read of the host's own names.
const maxNames = 16 << 10

// ReadNames reads how this host finds other hosts, which changes while it
// runs. What cannot be read is left empty, and what is longer is cut.
func (f *Facts) ReadNames() {
	for _, n := range [...]struct {
		path string
		to   *string
	}{{"/etc/resolv.conf", &f.Resolv}, {"/etc/hosts", &f.Hosts}} {
		*n.to = ""
		if file, err := os.Open(n.path); err == nil {
			b, _ := io.ReadAll(io.LimitReader(file, maxNames))
			*n.to = string(b)
			file.Close()
		}
	}
}
