package catalog

import (
	"fmt"
	"strconv"
	"strings"
)

// The forms of text that has a meaning, as regular expressions that Go and
// JSON Schema read alike. The decoder checks the form first and then parses,
// so that an editor with the schema and Casemate agree.
const (
	sizeForm     = `^[0-9]{1,18}(\.[0-9]{1,6})?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$`
	durationForm = `^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	callsForm    = `^[1-9][0-9]{0,8}/(s|min)$`
)

const maxBytes = 1 << 50

// parseCalls reads "60/min" or "2/s" as calls per minute.
func parseCalls(s string) (int, error) {
	count, per, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	if err != nil {
		return 0, fmt.Errorf("not a rate; write calls per minute, as in 60/min")
	}
	if per == "s" {
		n *= 60
	}
	return n, nil
}
