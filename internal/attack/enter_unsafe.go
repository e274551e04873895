//go:build amd64

package attack

import "unsafe"

// enter calls the machine code at the start of page, which takes nothing,
// returns nothing and keeps the registers that Go's functions keep.
func enter(page []byte) {
	code := unsafe.Pointer(&page[0])
	closure := unsafe.Pointer(&code)
	(*(*func())(unsafe.Pointer(&closure)))()
}
