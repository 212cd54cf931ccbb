package federationtest

import (
	"fmt"
	"testing"
	"time"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Tree is a tree with all its keys.
type Tree struct {
	*topology.Tree
	Dir  string
	Keys map[jurisdiction.Code]*journal.Key
}

// NewTree makes the keys of a city with two districts, the first of which has two streets:
// 120000 > 120116 > 120116013, 120116014; 120000 > 120101.
func NewTree(t testing.TB, now time.Time) *Tree {
	t.Helper()
	return newTree(t, now,
		member("120000", "", jurisdiction.City),
		member("120116", "120000", jurisdiction.District),
		member("120101", "120000", jurisdiction.District),
		member("120116013", "120116", jurisdiction.Street),
		member("120116014", "120116", jurisdiction.Street))
}

// NewWideTree makes the keys of a city with many streets straight under it.
func NewWideTree(t testing.TB, now time.Time, streets int) *Tree {
	t.Helper()
	members := []topology.Member{member("442000", "", jurisdiction.City)}
	for i := range streets {
		members = append(members, member(jurisdiction.Code(fmt.Sprintf("442000%03d", i)), "442000", jurisdiction.Street))
	}
	return newTree(t, now, members...)
}

func member(code, parent jurisdiction.Code, tier jurisdiction.Tier) topology.Member {
	return topology.Member{Code: code, Name: "node " + string(code), Tier: tier, Parent: parent, Address: "127.0.0.1:1"}
}

func newTree(t testing.TB, now time.Time, members ...topology.Member) *Tree {
	t.Helper()
	dir := t.TempDir() + "/keys"
	tree, err := topology.Generate(dir, topology.Spec{City: members[0].Code, Now: now, Members: members})
	if err != nil {
		t.Fatal(err)
	}
	out := &Tree{Tree: tree, Dir: dir, Keys: map[jurisdiction.Code]*journal.Key{}}
	for _, n := range tree.All() {
		if out.Keys[n.Code], err = topology.JournalKey(topology.NodeFolder(dir, n.Code)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// ID is the journal of a node.
func (t *Tree) ID(code jurisdiction.Code) journal.ID {
	n, _ := t.Node(code)
	return n.Journal
}

// Chain is a journal as its writer makes it, outside of any store.
type Chain struct {
	Key     *journal.Key
	Entries []journal.Entry
	edges   []journal.Frontier // by size
}

// NewChain begins an empty journal.
func NewChain(key *journal.Key) *Chain { return &Chain{Key: key, edges: make([]journal.Frontier, 1)} }

// Add appends an entry that was recorded at the given time.
func (c *Chain) Add(at int64, payload string) {
	c.Take(Entry(c.Key.Public().Journal(), uint64(len(c.Entries)), at,
		store.Proposal{Stream: "case/1", Kind: 20, Actor: "agency:x", Payload: []byte(payload)}))
}

// Take appends an entry as it is.
func (c *Chain) Take(e journal.Entry) {
	edge := c.edges[len(c.Entries)].Clone()
	edge.Append(journal.LeafHash(e.Raw))
	c.Entries, c.edges = append(c.Entries, e), append(c.edges, edge)
}

// Fork is another journal by the same key that has the first entries in common.
func (c *Chain) Fork(size int) *Chain {
	return &Chain{Key: c.Key, Entries: append([]journal.Entry(nil), c.Entries[:size]...), edges: append([]journal.Frontier(nil), c.edges[:size+1]...)}
}

// Note is the signed checkpoint of a size, stating a time; 0 for that of its last entry.
func (c *Chain) Note(size int, at int64) []byte {
	if at == 0 {
		at = c.Entries[size-1].RecordedAt
	}
	note, err := c.Key.Sign(journal.Checkpoint{Journal: c.Key.Public().Journal(), Size: uint64(size), Root: c.edges[size].Root(), Time: at})
	if err != nil {
		panic(err) // the key is the journal's
	}
	return note
}

// Batch is what a child sends of it.
func (c *Chain) Batch(from, to int) *dubanv1.SyncBatch {
	id := c.Key.Public().Journal()
	return &dubanv1.SyncBatch{Journal: id[:], From: uint64(from), Entries: federation.ToWire(c.Entries[from:to]), Checkpoint: c.Note(to, 0)}
}
