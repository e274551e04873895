package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDepth is how deep a message may nest. What planners send nests a handful
// of levels; the bound keeps every recursive reader behind it shallow.
const MaxDepth = 64

// ErrNotJSON is wrapped by the errors of Check that say that a message is no
// JSON at all, and so has no fields that an answer could refer to.
var ErrNotJSON = errors.New("not valid JSON")

// Check refuses every message that two readers could read differently. It
// returns nil only for one JSON value (RFC 8259), in valid UTF-8, whose
// strings have no half of a surrogate pair, that nests at most MaxDepth deep,
// and in which no object has two keys that are equal under Fold.
//
// The standard decoder takes the last of equal keys and matches the fields of
// structs whatever the case, others take the first or match exactly: one
// message could pass a check by one reading and be acted on by another
// (CVE-2026-27896).
func Check(data []byte) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: it is not UTF-8", ErrNotJSON)
	}
	if err := depth(data); err != nil {
		return err
	}
	if !json.Valid(data) {
		return ErrNotJSON
	}
	if loneSurrogate(data) {
		return fmt.Errorf(`%w: a \u escape is half of a surrogate pair`, ErrNotJSON)
	}
	return uniqueKeys(data)
}

// depth is a scan of its own, before any parser, because that is what a
// parser must be kept from.
func depth(data []byte) error {
	deep, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if deep++; deep > MaxDepth {
				return fmt.Errorf("%w: it nests more than %d deep", ErrNotJSON, MaxDepth)
			}
		case c == '}' || c == ']':
			deep--
		}
	}
	return nil
}

// uniqueKeys wants valid JSON.
func uniqueKeys(data []byte) error {
	type level struct {
		seen  map[string]string // nil for an array
		value bool              // a key was read, its value is next
	}
	var levels []*level
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotJSON, err)
		}
		var in *level
		if len(levels) > 0 {
			in = levels[len(levels)-1]
		}
		if key, ok := tok.(string); ok && in != nil && in.seen != nil && !in.value {
			folded := Fold(key)
			if was, ok := in.seen[folded]; ok {
				if was == key {
					return fmt.Errorf("the key %.64q is there twice in one object", key)
				}
				return fmt.Errorf("the keys %.64q and %.64q in one object differ by case alone", was, key)
			}
			in.seen[folded] = key
			in.value = true
			continue
		}
		if in != nil {
			in.value = false
		}
		switch tok {
		case json.Delim('{'):
			levels = append(levels, &level{seen: map[string]string{}})
		case json.Delim('['):
			levels = append(levels, &level{})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
	}
}

// Fold maps all keys that differ by case alone to one. It folds as
// strings.EqualFold compares, so the long s is an s and the Kelvin sign a k.
func Fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, key)
}

// loneSurrogate wants valid JSON, where a backslash is always in a string.
func loneSurrogate(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++ // at the escaped character
		if data[i] != 'u' {
			continue
		}
		unit := hex4(data[i+1:])
		i += 4 // at the last digit
		switch {
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return true
		case unit >= 0xD800 && unit <= 0xDBFF:
			rest := data[i+1:]
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
				return true
			}
			if low := hex4(rest[2:]); low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 6
		}
	}
	return false
}

func hex4(b []byte) (n int) {
	for _, c := range b[:4] {
		n <<= 4
		switch {
		case c <= '9':
			n |= int(c - '0')
		case c <= 'F':
			n |= int(c-'A') + 10
		default:
			n |= int(c-'a') + 10
		}
	}
	return n
}
