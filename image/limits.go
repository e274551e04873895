package image

// Limits bound one image. Zero is the default of each.
type Limits struct {
	Bytes   int64 `json:"bytes"`   // what its layers unpack to, all together; 16 GiB
	Entries int   `json:"entries"` // of all its layers; 1,000,000
	Reserve int64 `json:"reserve"` // bytes of the disk that stay free; 256 MiB
}

// Bounds of a tree.
const (
	maxPath  = 4000 // bytes of a name: the kernel takes 4095
	maxDepth = 128  // folders beneath each other
)

func (l Limits) orDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 16 << 30
	}
	if l.Entries <= 0 {
		l.Entries = 1_000_000
	}
	if l.Reserve <= 0 {
		l.Reserve = 256 << 20
	}
	return l
}
