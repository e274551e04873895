//go:build !amd64

package contain

// LateCode returns nothing: the interpreter carries a Program out.
func LateCode() []byte { return nil }
