// Package attachment keeps evidence and documents (附件): files named by the SHA-256 of their bytes.
//
// What it promises: Put answers once the bytes are durable (file and folders fsynced) and are what their name says; nothing is
// ever changed or removed; a broken upload leaves nothing behind; memory does not grow with a file's size. Any number of
// uploads and readings may run at once, also of the same bytes. What is brought from another node may come in pieces, with
// breaks between (Resume).
//
// What it doesn't do yet: copies on a majority of replicas; a file is durable on this machine's disk. Which case an
// attachment belongs to is the journal's to say, and bringing one from the node below is federation/fetch's to do.
//
// # Files
//
// dir/ab/abcd...: 64 hexadecimal digits, in the folder of the first two. dir/incoming holds uploads under way; what a
// crash left there is removed at start. dir/partial holds what is coming in by pieces, and stays.
package attachment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"duban.internal/node/fault"
)

// DefaultMax is the largest attachment where a Config does not say otherwise, in bytes.
const DefaultMax = 1 << 30

// Config of a Files.
type Config struct {
	Dir string // made where it is not there
	Max uint64 // largest attachment in bytes; 0 for DefaultMax
}

// Files are the attachments of one node.
type Files struct {
	dir string
	max uint64

	mu     sync.Mutex
	coming map[[sha256.Size]byte]bool // Partials that are open
}

// Open makes the folder ready and clears what a crash left.
func Open(c Config) (*Files, error) {
	if c.Max == 0 {
		c.Max = DefaultMax
	}
	if c.Dir == "" {
		return nil, fault.Refuse(fault.Invalid, "attachments", fault.Field{Field: "Dir", Description: "is missing: expected a folder"})
	}
	f := &Files{dir: c.Dir, max: c.Max, coming: map[[sha256.Size]byte]bool{}}
	if err := os.RemoveAll(f.incoming()); err != nil {
		return nil, fmt.Errorf("attachments: %w", err)
	}
	for _, dir := range []string{f.incoming(), f.partial()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("attachments: %w", err)
		}
	}
	if err := syncDir(f.dir); err != nil {
		return nil, fmt.Errorf("attachments: %w", err)
	}
	return f, nil
}

func (f *Files) incoming() string { return filepath.Join(f.dir, "incoming") }

func (f *Files) path(sum [sha256.Size]byte) string {
	name := hex.EncodeToString(sum[:])
	return filepath.Join(f.dir, name[:2], name)
}

// Address checks the form of an address.
func Address(sha []byte) ([sha256.Size]byte, error) {
	if len(sha) != sha256.Size {
		return [sha256.Size]byte{}, fault.Refuse(fault.Invalid, "an attachment is named by its SHA-256", fault.Field{
			Field: "sha256", Description: fmt.Sprintf("%d bytes, expected %d", len(sha), sha256.Size),
		})
	}
	return [sha256.Size]byte(sha), nil
}

// Has says whether the bytes of an address are durable here, and how many they are.
func (f *Files) Has(sha []byte) (size uint64, ok bool) {
	sum, err := Address(sha)
	if err != nil {
		return 0, false
	}
	info, err := os.Stat(f.path(sum))
	if err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	return uint64(info.Size()), true
}

// Put stores the bytes of r, which must be size many and have the address. duplicate says that they were there before;
// nothing is read from r then. Kinds of errors: fault.Invalid with the fields sha256 and size, Exhausted, and what r gives.
func (f *Files) Put(ctx context.Context, sha []byte, size uint64, r io.Reader) (duplicate bool, err error) {
	sum, err := f.check(sha, size)
	if err != nil {
		return false, err
	}
	if had, ok := f.Has(sha); ok {
		if had != size {
			return false, wrongSize(size, had)
		}
		return true, nil
	}
	file, err := os.CreateTemp(f.incoming(), hex.EncodeToString(sum[:8])+"-")
	if err != nil {
		return false, fmt.Errorf("attachment: %w", err)
	}
	defer func() {
		err = errors.Join(err, ignoreClosed(file.Close()))
		if err != nil {
			_ = os.Remove(file.Name()) // best effort: Open clears the folder
		}
	}()
	digest := sha256.New()
	// One byte more than announced is read, so that a longer file is seen.
	n, err := io.CopyBuffer(file, io.LimitReader(&tee{ctx, r, digest}, int64(size)+1), make([]byte, 256<<10))
	switch {
	case err != nil:
		return false, fmt.Errorf("attachment: %w", err)
	case uint64(n) > size:
		return false, fault.Refuse(fault.Invalid, "the attachment is not what was announced", fault.Field{
			Field: "size", Description: fmt.Sprintf("announced were %d bytes; more came", size),
		})
	case uint64(n) < size:
		return false, wrongSize(size, uint64(n))
	case [sha256.Size]byte(digest.Sum(nil)) != sum:
		return false, fault.Refuse(fault.Invalid, "the attachment is not what was announced", fault.Field{
			Field: "sha256", Description: fmt.Sprintf("announced was %x; the bytes that came have %x", sum, digest.Sum(nil)),
		})
	}
	return false, f.keep(file, sum)
}

func (f *Files) check(sha []byte, size uint64) (sum [sha256.Size]byte, err error) {
	var bad fault.List
	if len(sha) != sha256.Size {
		bad.Add("sha256", "%d bytes, expected %d", len(sha), sha256.Size)
	} else {
		sum = [sha256.Size]byte(sha)
	}
	if size == 0 {
		bad.Add("size", "is missing: expected the length in bytes")
	}
	if err := bad.Err(fault.Invalid, "the attachment can't be taken"); err != nil {
		return sum, err
	}
	if size > f.max {
		return sum, fault.Refuse(fault.Exhausted, "the attachment is too large", fault.Field{
			Field: "size", Description: fmt.Sprintf("%d bytes, at most %d are taken", size, f.max),
		})
	}
	return sum, nil
}

func wrongSize(announced, came uint64) error {
	return fault.Refuse(fault.Invalid, "the attachment is not what was announced", fault.Field{
		Field: "size", Description: fmt.Sprintf("announced were %d bytes; there are %d", announced, came),
	})
}

// tee reads, digests, and gives up when ctx ends.
type tee struct {
	ctx context.Context
	r   io.Reader
	h   io.Writer
}

// Read reads from the upload.
func (t *tee) Read(p []byte) (int, error) {
	if err := t.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := t.r.Read(p)
	_, _ = t.h.Write(p[:n]) // a digest never fails
	return n, err
}

// keep makes a checked file durable and gives it its name.
func (f *Files) keep(file *os.File, sum [sha256.Size]byte) error {
	if err := file.Chmod(0o400); err != nil {
		return fmt.Errorf("attachment: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("attachment: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("attachment: %w", err)
	}
	to := f.path(sum)
	folder := filepath.Dir(to)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("attachment: %w", err)
	}
	if err := os.Rename(file.Name(), to); err != nil {
		return fmt.Errorf("attachment: %w", err)
	}
	return errors.Join(syncDir(folder), syncDir(f.dir))
}

// Get opens the bytes of an address from an offset on; the caller closes it. Kinds of errors: fault.Invalid, NotFound.
func (f *Files) Get(sha []byte, offset uint64) (io.ReadCloser, error) {
	sum, err := Address(sha)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Refuse(fault.NotFound, "no such attachment here", fault.Field{Field: "sha256", Description: hex.EncodeToString(sha)})
	}
	if err != nil {
		return nil, fmt.Errorf("attachment: %w", err)
	}
	info, err := file.Stat()
	if err == nil && offset > uint64(info.Size()) {
		err = fault.Refuse(fault.Invalid, "the attachment is shorter", fault.Field{
			Field: "offset", Description: fmt.Sprintf("%d, the attachment has %d bytes", offset, info.Size()),
		})
	}
	if err == nil {
		_, err = file.Seek(int64(offset), io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
