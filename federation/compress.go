package federation

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
	"google.golang.org/grpc/encoding"
)

// Compression is the name under which messages of the stream are compressed: grpc.UseCompressor(Compression). On entries
// of 1 KB of text S2 took a third of zstd's time at its fastest (262 and 82 MB/s) and left 1.5 times as many bytes; a parent
// that catches up is short of processor sooner than of network.
const Compression = "s2"

// gRPC finds compressors by name in a list of the whole process.
func init() { encoding.RegisterCompressor(&compressor{}) }

// compressor is S2. gRPC bounds what is decompressed by the size of a message; the block is bounded here.
type compressor struct {
	writers, readers sync.Pool
}

const maxBlock = 1 << 20

func (c *compressor) Name() string { return Compression }

func (c *compressor) Compress(w io.Writer) (io.WriteCloser, error) {
	if z, ok := c.writers.Get().(*writer); ok {
		z.Reset(w)
		return z, nil
	}
	return &writer{Writer: s2.NewWriter(w, s2.WriterConcurrency(1), s2.WriterBlockSize(256<<10)), pool: &c.writers}, nil
}

func (c *compressor) Decompress(r io.Reader) (io.Reader, error) {
	if z, ok := c.readers.Get().(*reader); ok {
		z.Reset(r)
		return z, nil
	}
	return &reader{Reader: s2.NewReader(r, s2.ReaderMaxBlockSize(maxBlock)), pool: &c.readers}, nil
}

type writer struct {
	*s2.Writer
	pool *sync.Pool
}

// Close ends the frame; the writer is used again.
func (w *writer) Close() error {
	err := w.Writer.Close()
	w.pool.Put(w)
	return err
}

type reader struct {
	*s2.Reader
	pool *sync.Pool
}

// Read gives the reader back at the end of the frame. One that failed is left to the collector.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		r.pool.Put(r)
	}
	return n, err
}
