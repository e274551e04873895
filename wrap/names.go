package wrap

import (
	"regexp"
	"strconv"
	"strings"
)

var name = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ValidName says whether s can be the name of a server.
func ValidName(s string) bool { return name.MatchString(s) }

var notName = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// nameOf makes a valid name of a client's key; n from 2 makes another.
func nameOf(key string, n int) string {
	s := strings.Trim(notName.ReplaceAllString(key, "-"), "-")
	if s == "" {
		s = "server"
	}
	end := ""
	if n > 1 {
		end = "-" + strconv.Itoa(n)
	}
	return s[:min(len(s), 64-len(end))] + end
}
