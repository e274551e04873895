package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/casemate/casemate"
)

// A counter is what may still be unpacked, of all layers.
type counter struct{ left int64 }

// A plain reads a layer as it is unpacked, hashes it if that is asked, and ends with an error
// where it is more than may be. Decompression goes on in a goroutine of its
// own, a few blocks ahead; Close waits for it.
type plain struct {
	hash   hash.Hash
	room   *counter
	blocks chan []byte
	free   chan []byte
	done   chan struct{} // closed by Close
	ended  chan struct{} // closed when the goroutine is gone
	err    error         // why blocks was closed
	block  []byte        // all of it
	rest   []byte        // what was not read of it
}

const (
	blockSize  = 256 << 10
	blockCount = 8

	maxWindow = 128 << 20 // of zstd; what its format recommends is 8 MiB
)

func decompress(blob io.Reader, compression string, room *counter, hashed bool) (*plain, error) {
	r, stop := blob, func() {}
	switch compression {
	case "":
	case "gzip":
		z, err := gzip.NewReader(blob)
		if err != nil {
			return nil, readError(err, "a layer is not compressed by gzip: ")
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(blob, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<63))
		if err != nil {
			return nil, readError(err, "a layer is not compressed by zstd: ")
		}
		r, stop = z, z.Close
	default:
		return nil, unsupported("one of its layers is compressed by %.20q", compression)
	}
	p := &plain{room: room, blocks: make(chan []byte, blockCount), free: make(chan []byte, blockCount),
		done: make(chan struct{}), ended: make(chan struct{})}
	if hashed {
		p.hash = sha256.New()
	}
	for range blockCount {
		p.free <- make([]byte, blockSize)
	}
	go func() {
		defer close(p.ended)
		defer stop()
		p.ahead(r, compression)
	}()
	return p, nil
}

// ahead fills blocks.
func (p *plain) ahead(r io.Reader, compression string) {
	defer close(p.blocks)
	for {
		var b []byte
		select {
		case b = <-p.free:
		case <-p.done:
			return
		}
		n, err := io.ReadFull(r, b[:blockSize])
		if n > 0 {
			p.blocks <- b[:n] // there is room for every block
		}
		if errors.Is(err, io.ErrUnexpectedEOF) && n > 0 {
			// A short block ends the layer, or its compression is cut short: the
			// next read tells them apart.
			continue
		}
		if err != nil {
			if p.err = err; !errors.Is(err, io.EOF) && compression != "" {
				p.err = fmt.Errorf("%s: %w", compression, err)
			}
			return
		}
	}
}

func (p *plain) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		if p.block != nil {
			p.free <- p.block
			p.block = nil
		}
		block, ok := <-p.blocks
		if !ok {
			return 0, p.err
		}
		if p.room.left -= int64(len(block)); p.room.left < 0 {
			return 0, &casemate.Error{Op: "image", Kind: casemate.Invalid, Err: errors.New("it unpacks to more than its limit of bytes"), Fix: "take a smaller image"}
		}
		if p.hash != nil {
			p.hash.Write(block)
		}
		p.block, p.rest = block, block
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// sum is the digest of what was read: of all, once Read has ended. It is ""
// where nothing was hashed.
func (p *plain) sum() casemate.Digest {
	if p.hash == nil {
		return ""
	}
	return casemate.Digest("sha256:" + hex.EncodeToString(p.hash.Sum(nil)))
}

// Close ends the decompression.
func (p *plain) Close() error {
	close(p.done)
	<-p.ended
	return nil
}
