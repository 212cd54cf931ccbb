package journal

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Frontier is the right edge of a tree: just enough to append leaves and tell the root, without storing anything. The
// zero value is the empty tree. A copy made by assignment shares memory; use Clone.
type Frontier struct {
	size  uint64
	peaks []tlog.Hash // roots of the perfect subtrees, from the left (and largest) on
}

// NewFrontier reads the edge of a stored tree of the given size.
func NewFrontier(r tlog.HashReader, size uint64) (Frontier, error) {
	if size > MaxSize {
		return Frontier{}, fmt.Errorf("journal: size %d", size)
	}
	f := Frontier{size: size}
	if size == 0 {
		return f, nil
	}
	indexes := make([]int64, 0, bits.OnesCount64(size))
	for level, left := bits.Len64(size)-1, uint64(0); level >= 0; level-- {
		if size&(1<<level) != 0 {
			indexes = append(indexes, tlog.StoredHashIndex(level, int64(left>>level)))
			left += 1 << level
		}
	}
	peaks, err := r.ReadHashes(indexes)
	if err != nil {
		return Frontier{}, fmt.Errorf("journal: reading the tree's edge: %w", err)
	}
	if len(peaks) != len(indexes) {
		return Frontier{}, fmt.Errorf("journal: reading the tree's edge: %d hashes, expected %d", len(peaks), len(indexes))
	}
	f.peaks = append(f.peaks, peaks...)
	return f, nil
}

// Size is the number of leaves.
func (f *Frontier) Size() uint64 { return f.size }

// Append adds a leaf by its hash.
func (f *Frontier) Append(leaf tlog.Hash) {
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.peaks) - 1
		leaf = tlog.NodeHash(f.peaks[last], leaf)
		f.peaks = f.peaks[:last]
	}
	f.peaks = append(f.peaks, leaf)
	f.size++
}

// Root is the root of the tree as it is now.
func (f *Frontier) Root() tlog.Hash {
	if f.size == 0 {
		return EmptyRoot()
	}
	root := f.peaks[len(f.peaks)-1]
	for i := len(f.peaks) - 2; i >= 0; i-- {
		root = tlog.NodeHash(f.peaks[i], root)
	}
	return root
}

// Clone is an independent copy.
func (f *Frontier) Clone() Frontier {
	return Frontier{size: f.size, peaks: append(make([]tlog.Hash, 0, len(f.peaks)+1), f.peaks...)}
}

// EmptyRoot is the root over no entries.
func EmptyRoot() tlog.Hash {
	root, err := tlog.TreeHash(0, nil)
	if err != nil {
		panic(err) // nothing is read for an empty tree
	}
	return root
}

// Root computes the root of a stored tree as it was at size.
func Root(r tlog.HashReader, size uint64) (tlog.Hash, error) {
	f, err := NewFrontier(r, size)
	if err != nil {
		return tlog.Hash{}, err
	}
	return f.Root(), nil
}

// RootAfter computes the root that a stored tree of the given size would have with further leaves, storing nothing.
func RootAfter(r tlog.HashReader, size uint64, leaves ...tlog.Hash) (tlog.Hash, error) {
	f, err := NewFrontier(r, size)
	if err != nil {
		return tlog.Hash{}, err
	}
	for _, leaf := range leaves {
		f.Append(leaf)
	}
	return f.Root(), nil
}

// ProveInclusion proves that entry number is in the tree of the given size.
func ProveInclusion(r tlog.HashReader, size, number uint64) ([]tlog.Hash, error) {
	if size > MaxSize || number >= size {
		return nil, fmt.Errorf("journal: no entry %d below size %d", number, size)
	}
	return tlog.ProveRecord(int64(size), int64(number), r)
}

// Includes checks the proof that the entry with this header is in c's tree. That the number and the journal inside the
// header are the expected ones is for the caller to check.
func (c Checkpoint) Includes(number uint64, header []byte, proof []tlog.Hash) error {
	if c.Size > MaxSize || number >= c.Size {
		return fmt.Errorf("journal: no entry %d below size %d", number, c.Size)
	}
	return tlog.CheckRecord(proof, int64(c.Size), c.Root, int64(number), LeafHash(header))
}

// ProveConsistency proves that the tree of size newer begins with the tree of size older.
func ProveConsistency(r tlog.HashReader, older, newer uint64) ([]tlog.Hash, error) {
	if newer > MaxSize || older > newer {
		return nil, fmt.Errorf("journal: size %d does not extend %d", newer, older)
	}
	if older == 0 {
		return nil, nil // anything extends nothing
	}
	return tlog.ProveTree(int64(newer), int64(older), r)
}

// Extends checks that c is a later (or the same) state of the journal of which older is one: not smaller, not earlier in
// time, and its tree begins with the older one.
func (c Checkpoint) Extends(older Checkpoint, proof []tlog.Hash) error {
	switch {
	case c.Journal != older.Journal:
		return fmt.Errorf("journal %s: checkpoint does not extend one of journal %s", c.Journal, older.Journal)
	case c.Size > MaxSize || c.Size < older.Size:
		return fmt.Errorf("journal %s: size %d after size %d", c.Journal, c.Size, older.Size)
	case c.Time < older.Time:
		return fmt.Errorf("journal %s: a checkpoint states an earlier time than one before it", c.Journal)
	case older.Size == 0:
		if older.Root != EmptyRoot() || len(proof) > 0 {
			return fmt.Errorf("journal %s: no tree has this root and no entries", c.Journal)
		}
		return nil
	}
	return tlog.CheckTree(proof, int64(c.Size), c.Root, int64(older.Size), older.Root)
}
