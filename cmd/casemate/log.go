package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/casemate/casemate"
)

// maxLine bounds one line of the record file, in bytes; the spawner appends
// shorter ones.
const maxLine = 64 << 10

// records calls f with each record of the file, in its order, and its line.
// A line that is no record (a crash of the host may cut the last) is handed
// to bad, and reading goes on. f stops it with io.EOF.
func records(file string, f func(line []byte, r *casemate.Receipt) error, bad func(n int)) error {
	return recordsFrom(file, 0, f, bad)
}

// recordsFrom is records of the last most bytes of the file, where most is not
// 0; the line that it begins in is left out.
func recordsFrom(file string, most int64, f func(line []byte, r *casemate.Receipt) error, bad func(n int)) error {
	in, err := os.Open(file)
	if missing(err) {
		return nil // no call yet
	}
	if err != nil {
		return &casemate.Error{Op: "log", Kind: casemate.Internal, Err: err}
	}
	defer in.Close()
	if st, err := in.Stat(); err == nil && most > 0 && st.Size() > most {
		if _, err := in.Seek(-most, io.SeekEnd); err != nil {
			return &casemate.Error{Op: "log", Kind: casemate.Internal, Err: err}
		}
	}
	b := bufio.NewReaderSize(in, maxLine)
	for n := 1; ; n++ {
		line, err := b.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = b.ReadSlice('\n')
			}
			bad(n)
			continue
		case err == io.EOF && len(line) == 0:
			return nil
		case err != nil && err != io.EOF:
			return &casemate.Error{Op: "log", Kind: casemate.Internal, Err: err}
		}
		var r casemate.Receipt
		if json.Unmarshal(line, &r) != nil || r.Call == "" {
			bad(n)
			continue
		}
		if err := f(line, &r); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// recordFile is where the records of a state folder lie.
func recordFile(state string) string { return filepath.Join(state, "records.jsonl") }

func (a *app) logCommand() *cobra.Command {
	var call, tool string
	c := &cobra.Command{
		Use:   "log [--call ID] [--tool NAME]",
		Short: "Show the record of calls: what was asked, decided and enforced, and how it ended",
		Args:  noArgs,
		RunE: runs(func(*cobra.Command, []string) error {
			state, err := a.stateOf()
			if err != nil {
				return err
			}
			var open []*casemate.Receipt // intents whose outcome has not come yet
			err = records(recordFile(state), func(line []byte, r *casemate.Receipt) error {
				if call != "" && string(r.Call) != call || tool != "" && string(r.Tool) != tool {
					return nil
				}
				if a.console.json {
					s := strings.TrimRight(string(line), "\n")
					if a.outTTY {
						s = jsonASCII(s)
					}
					_, err := io.WriteString(a.out, s+"\n")
					return err
				}
				if r.Event == "intent" {
					open = append(open, r)
					return nil
				}
				for i, o := range open {
					if o.Call == r.Call {
						open = append(open[:i], open[i+1:]...)
						break
					}
				}
				return a.line("%s", summary(r))
			}, func(n int) { a.note("log: line %d is no record", n) })
			if err != nil {
				return err
			}
			for _, r := range open {
				if err := a.line("%s  %s  %s  no outcome yet, or the host ended first", r.Time.Local().Format(time.DateTime), r.Call, r.Tool); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	c.Flags().StringVar(&call, "call", "", "only the call `ID`")
	c.Flags().StringVar(&tool, "tool", "", "only calls of the tool `NAME`")
	return c
}

// summary is one record on one line.
func summary(r *casemate.Receipt) string {
	s := []string{r.Time.Local().Format(time.DateTime), string(r.Call), escapeLine(string(r.Tool))}
	switch {
	case r.Event == "session":
		s = append(s[:2], "a caller named the session "+escapeLine(string(r.Session)))
	case r.Event == "why":
		s = append(s, "a caller asked: "+decided(r.Decision))
	case r.Error != nil:
		s = append(s, string(r.Error.Kind)+": "+escapeLine(r.Error.Message))
	case r.Decision != nil && r.Decision.Effect != "allow":
		s = append(s, escapeLine(r.Decision.Effect))
	default:
		s = append(s, "done")
	}
	if r.Usage != nil {
		s = append(s, time.Duration(r.Usage.WallMS*float64(time.Millisecond)).Round(10*time.Microsecond).String())
	}
	if n := len(r.Changes); n > 0 {
		s = append(s, plural(n, "change"))
	}
	if r.Enforced != nil && len(r.Enforced.Degraded) > 0 {
		s = append(s, "without "+strings.Join(r.Enforced.Degraded, ", "))
	}
	return strings.Join(s, "  ")
}

// decided is a decision on one line.
func decided(d *casemate.Decision) string {
	if d == nil {
		return "nothing was decided"
	}
	return escapeLine(d.Effect + " (" + strings.Join(d.Reasons, "; ") + ")")
}
