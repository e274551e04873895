package merge

import (
	"bytes"

	"golang.org/x/sys/unix"
)

const chunk = 256 << 10

// copyData writes the first size bytes of src to dst, which is empty, and
// keeps holes.
func copyData(dst, src int, size int64) error {
	if err := unix.Ftruncate(dst, size); err != nil {
		return err
	}
	buf := make([]byte, min(chunk, size))
	for pos := int64(0); pos < size; {
		data, err := unix.Seek(src, pos, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole to the end
			return nil
		}
		hole := size
		if err == nil {
			if hole, err = unix.Seek(src, data, unix.SEEK_HOLE); err != nil {
				hole = size
			}
		} else { // a file system without holes
			data = pos
		}
		for pos = data; pos < min(hole, size); {
			n, err := pread(src, buf[:min(chunk, min(hole, size)-pos)], pos)
			if err != nil {
				return err
			}
			if n == 0 {
				return unix.EIO // shorter than it was
			}
			if err := pwrite(dst, buf[:n], pos); err != nil {
				return err
			}
			pos += int64(n)
		}
	}
	return nil
}

// equalData reports whether the first size bytes of a and b are the same. A
// failure to read is a difference.
func equalData(a, b int, size int64) bool {
	x, y := make([]byte, min(chunk, size)), make([]byte, min(chunk, size))
	for pos := int64(0); pos < size; {
		want := min(chunk, size-pos)
		if !full(a, x[:want], pos) || !full(b, y[:want], pos) || !bytes.Equal(x[:want], y[:want]) {
			return false
		}
		pos += want
	}
	return true
}

func full(fd int, b []byte, pos int64) bool {
	for len(b) > 0 {
		n, err := pread(fd, b, pos)
		if err != nil || n == 0 {
			return false
		}
		b, pos = b[n:], pos+int64(n)
	}
	return true
}

func pread(fd int, b []byte, pos int64) (int, error) {
	for {
		if n, err := unix.Pread(fd, b, pos); err != unix.EINTR {
			return n, err
		}
	}
}

func pwrite(fd int, b []byte, pos int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, pos)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, pos = b[n:], pos+int64(n)
	}
	return nil
}
