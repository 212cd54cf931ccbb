package embedded

import (
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// tree grows a journal's RFC 6962 tree leaf by leaf; it remembers only the roots of the perfect subtrees at its right
// edge. It writes hashes in tlog's order of storage, which is append-only and dense.
type tree struct {
	size uint64
	edge [64]tlog.Hash // edge[l] is the root of the last perfect subtree of 2^l leaves, where bit l of size is set
}

// add appends the hashes that a further leaf stores after dst.
func (t *tree) add(dst []byte, leaf tlog.Hash) []byte {
	dst = append(dst, leaf[:]...)
	level := 0
	for ; t.size>>level&1 == 1; level++ {
		leaf = tlog.NodeHash(t.edge[level], leaf)
		dst = append(dst, leaf[:]...)
	}
	t.edge[level] = leaf
	t.size++
	return dst
}

// root is the tree's head.
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		h, _ := tlog.TreeHash(0, nil) // the hash of nothing; reads nothing
		return h
	}
	level := bits.TrailingZeros64(t.size)
	h := t.edge[level]
	for level++; level < 64; level++ {
		if t.size>>level&1 == 1 {
			h = tlog.NodeHash(t.edge[level], h)
		}
	}
	return h
}

// loadTree reads the right edge of a tree of a size.
func loadTree(r tlog.HashReader, size uint64) (tree, error) {
	t := tree{size: size}
	var indexes []int64
	for level := range 64 {
		if size>>level&1 == 1 {
			indexes = append(indexes, tlog.StoredHashIndex(level, int64(size>>level)-1))
		}
	}
	hashes, err := r.ReadHashes(indexes)
	if err != nil {
		return t, err
	}
	for level, i := 0, 0; level < 64; level++ {
		if size>>level&1 == 1 {
			t.edge[level] = hashes[i]
			i++
		}
	}
	return t, nil
}

// storedHashes is how many hashes a tree of a size stores.
func storedHashes(size uint64) int64 {
	if size == 0 {
		return 0
	}
	return tlog.StoredHashCount(int64(size))
}
