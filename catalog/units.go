package catalog

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
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

var sizeUnits = []struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// parseSize reads "512MiB" or plain bytes; at least 1, at most 1 PiB.
func parseSize(s string) (int64, error) {
	unit := 1.0
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = n, u.bytes
			break
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("not a size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, as in 512MiB")
	}
	f *= unit
	if f < 1 || f > maxBytes || f != math.Trunc(f) {
		return 0, fmt.Errorf("not a whole number of bytes from 1 to 1024 TiB")
	}
	return int64(f), nil
}

// parseDuration reads "30s"; from a millisecond to a year.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("not a duration; write a number with ms, s, m or h, as in 30s")
	}
	if d < time.Millisecond || d > 365*24*time.Hour {
		return 0, fmt.Errorf("a duration is from 1ms to 8760h")
	}
	return d, nil
}

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
