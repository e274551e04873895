package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// strictJSON says why src is not one JSON value that every reader takes for
// the same: no key stands twice, no number is beyond what a reader can hold,
// nothing follows.
func strictJSON(src []byte, most int) error {
	if len(src) > most {
		return fmt.Errorf("is larger than %d bytes", most)
	}
	if badByte(src) >= 0 {
		return errors.New("is not UTF-8, or holds a NUL byte")
	}
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	var open []map[string]bool // keys of the objects that are open; nil: an array
	key := false               // the next token is a key or the end of an object
	values := 0
	for {
		t, err := d.Token()
		switch {
		case errors.Is(err, io.EOF) && len(open) == 0 && values > 0:
			return nil
		case err != nil:
			return errors.New("is no JSON: " + strings.TrimPrefix(err.Error(), "json: "))
		case len(open) == 0 && values > 0:
			return errors.New("has something after its JSON value")
		}
		if values++; values > 20*maxNodes {
			return errors.New("has too many values")
		}
		switch t := t.(type) {
		case json.Delim:
			switch t {
			case '{':
				open = append(open, map[string]bool{})
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
			if len(open) > maxListedDepth {
				return fmt.Errorf("is nested deeper than %d", maxListedDepth)
			}
			key = len(open) > 0 && open[len(open)-1] != nil
			continue
		case string:
			if key {
				seen := open[len(open)-1]
				if seen[t] {
					return fmt.Errorf("has the key %s twice", shown(t))
				}
				seen[t] = true
				key = false
				continue
			}
		case json.Number:
			if why := badNumber(t.String()); why != "" {
				return errors.New("has a number that " + why)
			}
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
}
