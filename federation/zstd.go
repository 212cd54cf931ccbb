package federation

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/encoding"
)

// Compression is the name under which messages of the stream are compressed: grpc.UseCompressor(Compression).
const Compression = "zstd"

// gRPC finds compressors by name in a list of the whole process.
func init() { encoding.RegisterCompressor(&compressor{}) }

// compressor is zstd at its fastest. gRPC bounds what is decompressed by the size of a message; the window is bounded here.
type compressor struct {
	writers, readers sync.Pool
}

func (c *compressor) Name() string { return Compression }

func (c *compressor) Compress(w io.Writer) (io.WriteCloser, error) {
	if z, ok := c.writers.Get().(*writer); ok {
		z.Reset(w)
		return z, nil
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(512<<10))
	if err != nil {
		return nil, err
	}
	return &writer{Encoder: z, pool: &c.writers}, nil
}

func (c *compressor) Decompress(r io.Reader) (io.Reader, error) {
	if z, ok := c.readers.Get().(*reader); ok {
		if err := z.Reset(r); err != nil {
			return nil, err
		}
		return z, nil
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderMaxMemory(2*MaxMessage))
	if err != nil {
		return nil, err
	}
	return &reader{Decoder: z, pool: &c.readers}, nil
}

type writer struct {
	*zstd.Encoder
	pool *sync.Pool
}

// Close ends the frame; the encoder is used again.
func (w *writer) Close() error {
	err := w.Encoder.Close()
	w.pool.Put(w)
	return err
}

type reader struct {
	*zstd.Decoder
	pool *sync.Pool
}

// Read gives the decoder back at the end of the frame. One that failed is left to the collector.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Decoder.Read(p)
	if err == io.EOF {
		r.pool.Put(r)
	}
	return n, err
}
