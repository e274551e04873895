package casemate

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits are what one call takes from what its tool has: what is set here holds
// for it instead of the profile's, and is never more. What is zero takes nothing.
//
// As JSON they are an object of memory, disk, output (a size such as "64MiB", or
// bytes), cpu (cores), processes, timeout ("2s", or seconds) and without (the
// places of mounts); no other key is taken.
type Limits struct {
	Memory    int64         `json:"memory,omitempty"`
	Disk      int64         `json:"disk,omitempty"`
	Output    int64         `json:"output,omitempty"`
	CPU       float64       `json:"cpu,omitempty"`
	Processes int           `json:"processes,omitempty"`
	Timeout   time.Duration `json:"timeout,omitempty"`
	Without   []string      `json:"without,omitempty"` // At of the profile's mounts
}

// The bounds of Limits.Without.
const (
	maxWithout     = 64
	maxWithoutPath = 4096 // bytes
)

// Zero says whether l takes nothing.
func (l *Limits) Zero() bool {
	return l.Memory == 0 && l.Disk == 0 && l.Output == 0 && l.CPU == 0 && l.Processes == 0 && l.Timeout == 0 && len(l.Without) == 0
}

// Set sets the limit of that name to what value says.
func (l *Limits) Set(name, value string) (err error) {
	switch name {
	case "memory":
		l.Memory, err = ParseSize(value)
	case "disk":
		l.Disk, err = ParseSize(value)
	case "output":
		l.Output, err = ParseSize(value)
	case "timeout":
		l.Timeout, err = ParseDuration(value)
	case "cpu":
		if l.CPU, err = strconv.ParseFloat(value, 64); err != nil || !(l.CPU >= 0.001 && l.CPU <= 1024) {
			err = errors.New("not a number of cores from 0.001 to 1024")
		}
	case "processes":
		if l.Processes, err = strconv.Atoi(value); err != nil || l.Processes < 1 || l.Processes > 1<<22 {
			err = errors.New("not a number from 1 to 4194304")
		}
	default:
		err = errors.New("there is no such limit; there are memory, disk, output, cpu, processes, timeout and without")
	}
	if err != nil {
		return fmt.Errorf("limits.%.64s: %w", name, err)
	}
	return nil
}

// Leave leaves out the mounts at those places.
func (l *Limits) Leave(places ...string) error {
	for _, at := range places {
		if !strings.HasPrefix(at, "/") || len(at) > maxWithoutPath {
			return fmt.Errorf("limits.without: %.64q is not the place of a mount", at)
		}
		if !slices.Contains(l.Without, at) {
			l.Without = append(l.Without, at)
		}
	}
	if len(l.Without) > maxWithout {
		return fmt.Errorf("limits.without: more than %d", maxWithout)
	}
	return nil
}

// UnmarshalJSON reads what Limits are as JSON.
func (l *Limits) UnmarshalJSON(b []byte) error {
	var got map[string]json.RawMessage
	if err := json.Unmarshal(b, &got); err != nil || got == nil {
		return errors.New("limits: not an object")
	}
	*l = Limits{}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		raw := got[name]
		if name == "without" {
			var places []string
			if json.Unmarshal(raw, &places) != nil || places == nil {
				return errors.New("limits.without: not an array of texts")
			}
			if err := l.Leave(places...); err != nil {
				return err
			}
			continue
		}
		var value string
		if raw[0] != '"' { // a number; of a duration, of seconds
			if value = string(raw); name == "timeout" {
				value += "s"
			}
		} else if json.Unmarshal(raw, &value) != nil {
			return fmt.Errorf("limits.%.64s: not a text", name)
		}
		if err := l.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// MarshalJSON writes the timeout as a duration.
func (l Limits) MarshalJSON() ([]byte, error) {
	type plain Limits
	out := struct {
		plain
		Timeout string `json:"timeout,omitempty"`
	}{plain: plain(l)}
	if l.Timeout != 0 {
		out.Timeout = l.Timeout.String()
	}
	return json.Marshal(out)
}

var sizeUnits = [...]struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize reads "512MiB" or plain bytes; at least 1, at most 1 PiB.
func ParseSize(s string) (int64, error) {
	unit := 1.0
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = n, u.bytes
			break
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, errors.New("not a size; write bytes, or a number with KiB, MiB, GiB, KB, MB or GB, as in 512MiB")
	}
	f *= unit
	if f < 1 || f > 1<<50 || f != math.Trunc(f) {
		return 0, errors.New("not a whole number of bytes from 1 to 1024 TiB")
	}
	return int64(f), nil
}

// ParseDuration reads "30s"; from a millisecond to a year.
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("not a duration; write a number with ms, s, m or h, as in 30s")
	}
	if d < time.Millisecond || d > 365*24*time.Hour {
		return 0, errors.New("a duration is from 1ms to 8760h")
	}
	return d, nil
}
