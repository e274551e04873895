package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// hundred is a layer of 100 MiB in files of 100 bytes to 2 MiB, which gzip
// makes a third of.
func hundred(b *testing.B) []byte {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	words := make([]string, 4096)
	for i := range words {
		words[i] = fmt.Sprintf("%x ", r.Uint64N(1<<(8+i%40)))
	}
	for n, total := 0, 0; total < 100<<20; n++ {
		if n%40 == 0 {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("usr/lib/d%d/", n/40), Mode: 0o755})
		}
		size := 100 + int(r.ExpFloat64()*30000)%(2<<20)
		var c bytes.Buffer
		for c.Len() < size {
			c.WriteString(words[r.IntN(len(words))])
		}
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/lib/d%d/f%d", n/40, n), Size: int64(size), Mode: 0o644, ModTime: time.Unix(1e9, 0)})
		w.Write(c.Bytes()[:size])
		total += size
	}
	w.Close()
	return out.Bytes()
}

// BenchmarkUnpack unpacks an image of 100 MiB, verified and put into the
// store, and the same layer by tar -x, turn by turn; the ratio of the two is
// reported as x-of-tar.
func BenchmarkUnpack(b *testing.B) {
	layer := hundred(b)
	for _, compress := range []string{"", "gzip"} {
		b.Run("compression="+compress, func(b *testing.B) {
			im := shape{layers: [][]byte{layer}, compress: compress}.write(b)
			b.SetBytes(int64(len(layer)))
			var ours, theirs time.Duration
			for b.Loop() {
				s, err := Open(filepath.Join(b.TempDir(), "images"))
				if err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				if _, err := s.Pull(b.Context(), im.reference(), Options{Unpack: within}); err != nil {
					b.Fatal(err)
				}
				ours += time.Since(began)
				to := b.TempDir()
				began = time.Now()
				if out, err := exec.Command("tar", "-xf", im.blob(im.layers[0]), "-C", to, map[string]string{"": "-m", "gzip": "-z"}[compress]).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				theirs += time.Since(began)
				b.StopTimer()
				remove(s.dir)
				os.RemoveAll(to)
				b.StartTimer()
			}
			b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-of-tar")
			b.ReportMetric(float64(theirs.Milliseconds())/float64(b.N), "tar-ms/op")
		})
	}
}
