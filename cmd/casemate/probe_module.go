package main

import (
	"encoding/binary"
	"slices"
)

// Hostile modules of WebAssembly are written here byte by byte
// (webassembly.github.io/spec/core/binary): they need no compiler, and do what
// no compiler would write.

// A wasmCall is a function of WASI preview 1 that a module imports, with the
// types of its parameters: i for 32 bits and l for 64.
type wasmCall struct{ name, params string }

// hostile calls what a module of this interface can, in no order.
var wasmCalls = []wasmCall{
	{"fd_write", "iiii"}, {"fd_prestat_get", "ii"}, {"path_open", "iiiiillii"}, {"sock_accept", "iii"}, {"sock_send", "iiiii"}, {"environ_sizes_get", "ii"},
	{"random_get", "ii"}, {"path_symlink", "iiiii"}, {"path_create_directory", "iii"}, {"path_unlink_file", "iii"}, {"fd_read", "iiii"}, {"fd_prestat_dir_name", "iii"}, {"environ_get", "ii"},
}

// A wasmCode is the body of a module's _start.
type wasmCode struct {
	b    []byte
	said int32 // bytes of the answer so far
	text []byte
}

// wasmFolders is how many descriptors from 3 may be folders that a module was
// given: its scratch folders, and grants.
const wasmFolders = 5

// The memory of a hostile module, which has 2 pages at first.
const (
	wasmScratch = 1024  // where calls put what they return
	wasmVector  = 2048  // of fd_write
	wasmAnswer  = 4096  // a character for each call: '0' and its errno
	wasmText    = 16384 // names
)

func leb(v int64) (out []byte) {
	for {
		b := byte(v & 0x7f)
		if v >>= 7; v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

func uleb(v int) (out []byte) {
	for ; v > 0x7f; v >>= 7 {
		out = append(out, byte(v)|0x80)
	}
	return append(out, byte(v))
}

func (c *wasmCode) op(b ...byte)    { c.b = append(c.b, b...) }
func (c *wasmCode) i32(v int32)     { c.b = append(append(c.b, 0x41), leb(int64(v))...) }
func (c *wasmCode) local(n byte)    { c.op(0x20, n) } // get
func (c *wasmCode) setLocal(n byte) { c.op(0x21, n) }

// invoke calls a function of WASI; its errno is on the stack.
func (c *wasmCode) invoke(name string, args ...int64) {
	i := slices.IndexFunc(wasmCalls, func(w wasmCall) bool { return w.name == name })
	for k, a := range args {
		op := byte(0x41)
		if wasmCalls[i].params[k] == 'l' {
			op = 0x42
		}
		c.b = append(append(c.b, op), leb(a)...)
	}
	c.b = append(append(c.b, 0x10), uleb(i)...)
}

// try calls a function and puts its errno into the answer.
func (c *wasmCode) try(name string, args ...int64) {
	c.i32(wasmAnswer + c.said)
	c.invoke(name, args...)
	c.i32('0')
	c.op(0x6a, 0x3a, 0, 0) // add; store 8 bits
	c.said++
}

// name puts a text into the memory and returns where it is and its length.
func (c *wasmCode) name(s string) (at, n int64) {
	at = int64(wasmText + len(c.text))
	c.text = append(c.text, s...)
	return at, int64(len(s))
}

// open tries to open a path below a folder that was granted.
func (c *wasmCode) open(fd int64, path string, oflags, rights int64) {
	at, n := c.name(path)
	c.try("path_open", fd, 1, at, n, oflags, rights, 0, 0, wasmScratch)
}

// write writes n bytes from at to a descriptor, and drops the errno.
func (c *wasmCode) write(fd, at, n int32) {
	for i, v := range []int32{at, n} {
		c.i32(wasmVector + 4*int32(i))
		c.i32(v)
		c.op(0x36, 2, 0) // store
	}
	c.invoke("fd_write", int64(fd), wasmVector, 1, wasmScratch)
	c.op(0x1a) // drop
}

// loop repeats what body does for ever, or until that branches out by 1.
func (c *wasmCode) loop(body func()) {
	c.op(0x02, 0x40, 0x03, 0x40) // block, loop
	body()
	c.op(0x0c, 0, 0x0b, 0x0b) // again; end, end
}

// count puts the first local, divided, into the answer: five digits.
func (c *wasmCode) count(divisor int32) {
	for i, d := range []int32{10_000, 1000, 100, 10, 1} {
		c.i32(wasmAnswer + int32(i))
		c.local(0)
		c.i32(divisor)
		c.op(0x6d) // div
		c.i32(d)
		c.op(0x6d)
		c.i32(10)
		c.op(0x6f) // rem
		c.i32('0')
		c.op(0x6a, 0x3a, 0, 0)
	}
	c.said = 5
}

// module wraps the code: its answer is written at the end. extra is an import
// more, which no host has.
func (c *wasmCode) module(extra string) []byte {
	if c.said > 0 {
		c.write(1, wasmAnswer, c.said)
	}
	section := func(id byte, items ...[]byte) []byte {
		body := uleb(len(items))
		for _, i := range items {
			body = append(body, i...)
		}
		return append(append([]byte{id}, uleb(len(body))...), body...)
	}
	str := func(s string) []byte { return append(uleb(len(s)), s...) }
	var types, imports [][]byte
	for i, w := range wasmCalls {
		t := append([]byte{0x60}, uleb(len(w.params))...)
		for _, p := range w.params {
			t = append(t, map[rune]byte{'i': 0x7f, 'l': 0x7e}[p])
		}
		types = append(types, append(t, 1, 0x7f))
		imports = append(imports, append(append(append(str("wasi_snapshot_preview1"), str(w.name)...), 0), uleb(i)...))
	}
	types = append(types, []byte{0x60, 0, 0})
	start := uleb(len(wasmCalls))
	if extra != "" {
		imports = append(imports, append(append(append(str("env"), str(extra)...), 0), start...))
	}
	index := uleb(len(imports))
	body := append([]byte{1, 2, 0x7f}, c.b...) // two locals of 32 bits
	body = append(body, 0x0b)
	out := binary.LittleEndian.AppendUint32([]byte("\x00asm"), 1)
	for _, s := range [][]byte{
		section(1, types...), section(2, imports...), section(3, start),
		section(4, []byte{0x70, 0, 1}), section(5, []byte{0, 2}), // a table of one, and a memory
		section(7, append(append(str("memory"), 2), 0), append(append(str("_start"), 0), index...)),
		section(9, append([]byte{0, 0x41, 0, 0x0b, 1}, uleb(0)...)), // the table's is fd_write
		section(10, append(uleb(len(body)), body...)),
		section(11, append(append([]byte{0, 0x41}, append(leb(wasmText), 0x0b)...), append(uleb(len(c.text)), c.text...)...)),
	} {
		out = append(out, s...)
	}
	return out
}

// self is the index of _start.
func wasmSelf() []byte { return uleb(len(wasmCalls)) }
