package linux

// A call is a system call of one architecture.
type call struct {
	name string
	nr   uint32
}
