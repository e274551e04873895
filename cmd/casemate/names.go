package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/gateway"
)

// namesBytes bounds what is read of the record file for the names of sessions:
// names that are only in what is older may be used again.
const namesBytes = 1 << 30

// sessionNames returns the keys of the names that callers gave to sessions,
// joined: a name that was used stands for nothing else ever after, whichever
// process it was used in.
func sessionNames(file string) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, &casemate.Error{Op: "read session names", Kind: casemate.Internal, Err: err, Fix: "make the record file readable"}
	}
	in, err := os.Open(file)
	if missing(err) {
		return nil, nil // no call yet
	}
	if err != nil {
		return fail(err)
	}
	defer in.Close()
	if st, err := in.Stat(); err == nil && st.Size() > namesBytes {
		if _, err := in.Seek(-namesBytes, io.SeekEnd); err != nil {
			return fail(err)
		}
	}
	seen := map[gateway.NameKey]bool{}
	var keys []byte
	mark := []byte(`"event":"session"`)
	b := bufio.NewReaderSize(in, maxLine)
	for {
		line, err := b.ReadSlice('\n')
		if bytes.Contains(line, mark) { // few are, and to decode all takes long
			var r casemate.Receipt
			if json.Unmarshal(line, &r) == nil && r.Event == "session" {
				if k, ok := gateway.KeyOf(r.Name); ok && !seen[k] {
					seen[k] = true
					keys = append(keys, k[:]...)
				}
			}
		}
		switch {
		case err == io.EOF:
			return keys, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fail(err)
		}
	}
}
