package main

import (
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// A module's memory is reserved whole, and what of it was touched is taken from
// the sandbox's limit: it grows without being copied, and all of it is given back
// when the instance ends, without waiting for a collector.
type reserved struct{ memory []byte }

// reserve is an experimental.MemoryAllocator. Memory that cannot be reserved is
// memory that cannot grow, which the engine answers the module.
func reserve(_, most uint64) experimental.LinearMemory {
	r := &reserved{}
	if b, err := unix.Mmap(-1, 0, int(max(most, 1)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE); err == nil {
		r.memory = b
	}
	return r
}

// Reallocate returns the first size bytes; nil where there are not so many.
func (r *reserved) Reallocate(size uint64) []byte {
	if size > uint64(len(r.memory)) {
		return nil
	}
	return r.memory[:size:len(r.memory)]
}

// Free gives it back; nothing of the instance runs any more.
func (r *reserved) Free() {
	if r.memory != nil {
		unix.Munmap(r.memory)
		r.memory = nil
	}
}
