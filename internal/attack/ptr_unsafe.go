package attack

import "unsafe"

// ptr is for one system call that package unix does not wrap.
func ptr(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }
