package attachment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"duban.internal/node/fault"
)

// Partial is an attachment that comes in pieces (断点续传), over many attempts if need be: what came stays on disk, also over
// a restart, until Finish makes an attachment of it. It isn't durable before; what a crash spoiled, Finish finds.
// Its methods are for one goroutine.
type Partial struct {
	files *Files
	sum   [sha256.Size]byte
	file  *os.File
	size  uint64
}

func (f *Files) partial() string { return filepath.Join(f.dir, "partial") }

// Resume goes on with an attachment where the last attempt ended, or begins it. One at a time may: fault.Conflict. The
// caller ends with Finish or Close.
func (f *Files) Resume(sha []byte) (*Partial, error) {
	sum, err := Address(sha)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.coming[sum] {
		return nil, fault.New(fault.Conflict, "attachment %x is coming in already", sum)
	}
	file, err := os.OpenFile(filepath.Join(f.partial(), hex.EncodeToString(sum[:])), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("attachment: %w", err)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attachment: %w", err), file.Close())
	}
	f.coming[sum] = true
	return &Partial{files: f, sum: sum, file: file, size: uint64(size)}, nil
}

// Size is how many bytes are there.
func (p *Partial) Size() uint64 { return p.size }

// Write adds bytes at the end. Kind of errors: fault.Exhausted where the attachment becomes larger than is allowed.
func (p *Partial) Write(b []byte) (int, error) {
	if p.size+uint64(len(b)) > p.files.max {
		return 0, fault.New(fault.Exhausted, "attachment %x: more than %d bytes, at most %d are taken", p.sum, p.size, p.files.max)
	}
	n, err := p.file.Write(b)
	p.size += uint64(n)
	if err != nil {
		return n, fmt.Errorf("attachment: %w", err)
	}
	return n, nil
}

// Finish checks the bytes against the address and makes them durable under it. Bytes that are other ones are dropped
// (fault.Corrupt): the next Resume begins anew. The Partial is closed whatever comes.
func (p *Partial) Finish(ctx context.Context) error {
	defer p.release()
	digest := sha256.New()
	_, err := p.file.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.CopyBuffer(digest, &tee{ctx, p.file, discard{}}, make([]byte, 256<<10))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("attachment: %w", err), p.file.Close())
	}
	if sum := [sha256.Size]byte(digest.Sum(nil)); sum != p.sum {
		return errors.Join(fault.New(fault.Corrupt, "attachment %x: the %d bytes that came have %x", p.sum, p.size, sum),
			p.file.Close(), os.Remove(p.file.Name()))
	}
	if err := p.files.keep(p.file, p.sum); err != nil {
		return errors.Join(err, ignoreClosed(p.file.Close()))
	}
	return syncDir(p.files.partial())
}

// Close ends this attempt; what came stays for the next. After Finish it does nothing.
func (p *Partial) Close() error {
	if p.file == nil {
		return nil
	}
	err := ignoreClosed(p.file.Close())
	p.release()
	return err
}

func (p *Partial) release() {
	p.file = nil
	p.files.mu.Lock()
	defer p.files.mu.Unlock()
	delete(p.files.coming, p.sum)
}

// discard is a digest that isn't wanted.
type discard struct{}

// Write does nothing.
func (discard) Write(b []byte) (int, error) { return len(b), nil }
