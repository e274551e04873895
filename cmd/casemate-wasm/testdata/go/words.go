// Words is a module with one function, words, in Go:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o words.wasm .
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"unsafe"
)

// kept holds what the host has addresses of: the collector would free it.
var kept [][]byte

func keep(b []byte) uint32 {
	kept = append(kept, b)
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}

//go:wasmexport casemate_alloc
func alloc(size uint32) uint32 { return keep(make([]byte, max(size, 1))) }

//go:wasmexport words
func words(address, size uint32) uint64 {
	var in struct{ Text string }
	if err := json.Unmarshal(unsafe.Slice((*byte)(unsafe.Pointer(uintptr(address))), size), &in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 0 // no result: the call failed
	}
	if in.Text == "panic" {
		panic("asked to")
	}
	out, _ := json.Marshal(map[string]any{"words": len(strings.Fields(in.Text))})
	return uint64(keep(out))<<32 | uint64(len(out))
}

func main() {}
