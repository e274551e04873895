// Package codec is the small canonical binary form in which the parts of
// Casemate that hold privilege speak to each other: numbers as unsigned
// varints, strings with their length before them, lists with their count
// before them. There is one encoding of a value, and no reflection.
package codec

import (
	"encoding/binary"
	"errors"
)

// MaxList bounds the count of a list that a Reader accepts.
const MaxList = 1 << 16

// A Writer appends values to B.
type Writer struct{ B []byte }

// Uint appends v.
func (w *Writer) Uint(v uint64) { w.B = binary.AppendUvarint(w.B, v) }

// Int appends v, which is not negative.
func (w *Writer) Int(v int64) {
	if v < 0 {
		panic("codec: bug: negative number")
	}
	w.Uint(uint64(v))
}

// Bool appends v.
func (w *Writer) Bool(v bool) {
	if v {
		w.Uint(1)
	} else {
		w.Uint(0)
	}
}

// String appends s.
func (w *Writer) String(s string) {
	w.Uint(uint64(len(s)))
	w.B = append(w.B, s...)
}

// Strings appends ss.
func (w *Writer) Strings(ss []string) { List(w, ss, w.String) }

// List appends the count of vs, and each of them by put.
func List[T any](w *Writer, vs []T, put func(T)) {
	w.Uint(uint64(len(vs)))
	for _, v := range vs {
		put(v)
	}
}

// ErrMalformed is what a Reader ends with when the bytes are no encoding of
// what was asked.
var ErrMalformed = errors.New("malformed message")

// A Reader takes values from B. After the first failure every value is zero;
// End says whether there was one.
type Reader struct {
	B   []byte
	bad bool
}

// Uint takes a number.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.B)
	if r.bad || n <= 0 || n > 1 && r.B[n-1] == 0 { // a longer form than needed is refused
		r.bad = true
		return 0
	}
	r.B = r.B[n:]
	return v
}

// Int takes a number that fits an int64.
func (r *Reader) Int() int64 {
	v := r.Uint()
	if v > 1<<63-1 {
		r.bad = true
		return 0
	}
	return int64(v)
}

// Bool takes a truth value.
func (r *Reader) Bool() bool {
	v := r.Uint()
	if v > 1 {
		r.bad = true
	}
	return v == 1 && !r.bad
}

// String takes a string.
func (r *Reader) String() string {
	n := r.Uint()
	if r.bad || n > uint64(len(r.B)) {
		r.bad = true
		return ""
	}
	s := string(r.B[:n])
	r.B = r.B[n:]
	return s
}

// Strings takes a list of strings; nil where it is empty.
func (r *Reader) Strings() []string { return ReadList(r, r.String) }

// ReadList takes a list, each by get; nil where it is empty.
func ReadList[T any](r *Reader, get func() T) []T {
	n := r.Uint()
	if n > MaxList || n > uint64(len(r.B)) { // an element takes a byte at least
		r.bad = true
	}
	var out []T
	for i := uint64(0); i < n && !r.bad; i++ {
		out = append(out, get())
	}
	return out
}

// End returns ErrMalformed if anything failed or bytes are left.
func (r *Reader) End() error {
	if r.bad || len(r.B) > 0 {
		return ErrMalformed
	}
	return nil
}
