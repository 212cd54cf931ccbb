package journal_test

import (
	"encoding/hex"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"duban.internal/node/journal"
)

// stored is a tree in memory, built by tlog itself.
type stored struct {
	hashes []tlog.Hash
	size   uint64
}

func (s *stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s.hashes[x]
	}
	return out, nil
}

func (s *stored) add(t interface{ Fatal(...any) }, leaf tlog.Hash) {
	hashes, err := tlog.StoredHashesForRecordHash(int64(s.size), leaf, s)
	if err != nil {
		t.Fatal(err)
	}
	s.hashes, s.size = append(s.hashes, hashes...), s.size+1
}

// The vectors of Certificate Transparency's reference tests for RFC 6962.
func TestRootsOfRFC6962(t *testing.T) {
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var s stored
	var f journal.Frontier
	for i := 0; ; i++ {
		root, err := journal.Root(&s, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Root(); got != root || hex.EncodeToString(got[:]) != roots[i] {
			t.Errorf("size %d: %x by frontier, %x as stored, want %s", i, got, root, roots[i])
		}
		if i == len(leaves) {
			break
		}
		raw, err := hex.DecodeString(leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		s.add(t, journal.LeafHash(raw))
		f.Append(journal.LeafHash(raw))
	}
}

// Whatever the tree: the frontier agrees with tlog, proofs verify, and a proof verifies nothing else.
func TestTreeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(1, 300).Draw(t, "size")
		older := rapid.Uint64Range(0, size).Draw(t, "older")
		number := rapid.Uint64Range(0, size-1).Draw(t, "number")
		forked := rapid.Uint64Range(0, size-1).Draw(t, "forked")
		var s, fork stored
		raw := func(i uint64) []byte { return []byte{byte(i), byte(i >> 8)} }
		var leaves []tlog.Hash
		for i := range size {
			leaf := journal.LeafHash(raw(i))
			s.add(t, leaf)
			if i == forked {
				leaf = journal.LeafHash([]byte("another"))
			}
			fork.add(t, leaf)
			if i >= older {
				leaves = append(leaves, journal.LeafHash(raw(i)))
			}
		}
		root, err := tlog.TreeHash(int64(size), &s)
		if err != nil {
			t.Fatal(err)
		}
		if after, err := journal.RootAfter(&s, older, leaves...); err != nil || after != root {
			t.Fatalf("root after %d of %d: %v, %v; want %v", len(leaves), size, after, err, root)
		}
		edge, err := journal.NewFrontier(&s, older)
		if err != nil {
			t.Fatal(err)
		}
		before := edge.Root()
		grown := edge.Clone()
		grown.Append(journal.LeafHash([]byte("more")))
		if edge.Root() != before || edge.Size() != older || grown.Size() != older+1 {
			t.Fatal("growing a clone changed the original")
		}
		newer := journal.Checkpoint{Size: size, Root: root, Time: 2}
		included, err := journal.ProveInclusion(&s, size, number)
		if err != nil || newer.Includes(number, raw(number), included) != nil {
			t.Fatalf("inclusion of %d: %v, %v", number, err, newer.Includes(number, raw(number), included))
		}
		if newer.Includes(number, []byte("another"), included) == nil {
			t.Fatal("another entry is included")
		}
		was := journal.Checkpoint{Size: older, Root: before, Time: 1}
		consistent, err := journal.ProveConsistency(&s, older, size)
		if err != nil || newer.Extends(was, consistent) != nil {
			t.Fatalf("%d extends %d: %v, %v", size, older, err, newer.Extends(was, consistent))
		}
		if forked < older {
			forkRoot, err := journal.Root(&fork, size)
			if err != nil {
				t.Fatal(err)
			}
			proof, err := journal.ProveConsistency(&fork, older, size)
			if err != nil {
				t.Fatal(err)
			}
			if (journal.Checkpoint{Size: size, Root: forkRoot, Time: 2}).Extends(was, proof) == nil {
				t.Fatal("a fork extends what it forked from")
			}
		}
		if older < size && was.Extends(newer, consistent) == nil {
			t.Fatal("a smaller tree extends a larger")
		}
		if (journal.Checkpoint{Size: size, Root: root, Time: 0}).Extends(was, consistent) == nil {
			t.Fatal("an earlier time extends a later")
		}
	})
}

func TestProofsOutOfBounds(t *testing.T) {
	var s stored
	s.add(t, journal.LeafHash(nil))
	if _, err := journal.ProveInclusion(&s, 1, 1); err == nil {
		t.Error("an entry above the size was proved")
	}
	if _, err := journal.ProveConsistency(&s, 2, 1); err == nil {
		t.Error("a smaller tree was proved to extend a larger")
	}
	if _, err := journal.NewFrontier(&s, journal.MaxSize+1); err == nil {
		t.Error("a size beyond all bounds was read")
	}
	c := journal.Checkpoint{Size: 0, Root: tlog.Hash{1}}
	if (journal.Checkpoint{Size: 1}).Extends(c, nil) == nil {
		t.Error("an empty tree with a root that no empty tree has was extended")
	}
	if (journal.Checkpoint{Journal: journal.ID{1}, Size: 1}).Extends(journal.Checkpoint{Root: journal.EmptyRoot()}, nil) == nil {
		t.Error("another journal was extended")
	}
}
