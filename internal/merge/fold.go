package merge

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// fold returns the form in which names are compared with protected ones: two
// names that any file system in use takes for the same have the same form.
// It folds more than one file system does, since to hold a strange name back
// costs little:
//   - Unicode simple case folding (K and the Kelvin sign, s and the long s),
//     and the full foldings that give ASCII letters (ext4 casefold, APFS);
//   - code points that HFS+, APFS and ext4 casefold ignore are dropped;
//   - trailing dots and spaces, and everything from a colon on, are dropped
//     (NTFS, FAT, CIFS).
func fold(name string) string {
	ascii := true
	for i := 0; i < len(name) && ascii; i++ {
		ascii = name[i] < utf8.RuneSelf
	}
	if ascii {
		name = strings.ToLower(name)
	} else {
		name = foldRunes(name)
	}
	if i := strings.IndexByte(name, ':'); i > 0 {
		name = name[:i]
	}
	return strings.TrimRight(name, ". ")
}

func foldRunes(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteByte(name[i]) // no UTF-8: kept as it is
		case ignorable(r):
		default:
			if long := longFold(r); long != "" {
				b.WriteString(long)
			} else {
				b.WriteRune(simpleFold(r))
			}
		}
		i += n
	}
	return b.String()
}

// simpleFold returns one representative of all runes that r equals under
// simple case folding: the ASCII lower-case letter where there is one.
func simpleFold(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	if 'A' <= least && least <= 'Z' {
		return least + 'a' - 'A'
	}
	return least
}

// longFold returns the ASCII letters that r becomes under full case folding,
// or "". From CaseFolding.txt of Unicode, status F.
func longFold(r rune) string {
	switch r {
	case 0xdf, 0x1e9e:
		return "ss"
	case 0xfb00:
		return "ff"
	case 0xfb01:
		return "fi"
	case 0xfb02:
		return "fl"
	case 0xfb03:
		return "ffi"
	case 0xfb04:
		return "ffl"
	case 0xfb05, 0xfb06:
		return "st"
	}
	return ""
}

// ignorable reports Default_Ignorable_Code_Point of Unicode, which includes
// those that HFS+ ignores.
func ignorable(r rune) bool {
	switch {
	case r == 0xad, r == 0x34f, r == 0x61c, 0x115f <= r && r <= 0x1160, 0x17b4 <= r && r <= 0x17b5,
		0x180b <= r && r <= 0x180f, 0x200b <= r && r <= 0x200f, 0x202a <= r && r <= 0x202e,
		0x2060 <= r && r <= 0x206f, r == 0x3164, 0xfe00 <= r && r <= 0xfe0f, r == 0xfeff,
		r == 0xffa0, 0xfff0 <= r && r <= 0xfff8, 0x1bca0 <= r && r <= 0x1bca3,
		0x1d173 <= r && r <= 0x1d17a, 0xe0000 <= r && r <= 0xe0fff:
		return true
	}
	return false
}

// shortOf reports whether name, folded, can be the 8.3 short name by which
// FAT and NTFS also find the folded name long.
func shortOf(name, long string) bool {
	tilde := strings.IndexByte(name, '~')
	if tilde < 2 || tilde > 6 {
		return false
	}
	digits, ext := name[tilde+1:], ""
	if dot := strings.IndexByte(digits, '.'); dot >= 0 {
		digits, ext = digits[:dot], digits[dot+1:]
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return false
	}
	base, longExt := strings.TrimLeft(long, "."), ""
	if dot := strings.LastIndexByte(base, '.'); dot >= 0 {
		base, longExt = base[:dot], base[dot+1:]
	}
	base = strings.NewReplacer(".", "", " ", "").Replace(base)
	if ext != longExt[:min(3, len(longExt))] {
		return false
	}
	head := name[:tilde]
	if strings.HasPrefix(base, head) {
		return true
	}
	// The hashed form, once four short names are taken: two letters and four
	// hexadecimal digits.
	return len(head) == 6 && strings.HasPrefix(base, head[:2]) && strings.Trim(head[2:], "0123456789abcdef") == ""
}
