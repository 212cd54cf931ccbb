package letters

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// remembered bounds the hashes of the own tree that are kept between proofs: neighbours share most of theirs.
const remembered = 1 << 14

// memo remembers hashes; a stored hash never changes.
type memo struct {
	under tlog.HashReader
	known map[int64]tlog.Hash
}

// ReadHashes reads those that are not remembered.
func (m *memo) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	var missing []int64
	var at []int
	for i, x := range indexes {
		h, ok := m.known[x]
		if !ok {
			missing, at = append(missing, x), append(at, i)
		}
		out[i] = h
	}
	if len(missing) == 0 {
		return out, nil
	}
	read, err := m.under.ReadHashes(missing)
	if err != nil {
		return nil, err
	}
	if len(read) != len(missing) {
		return nil, fault.New(fault.Corrupt, "the tree gave %d hashes, asked for were %d", len(read), len(missing))
	}
	if len(m.known)+len(read) > remembered {
		clear(m.known)
	}
	for i, h := range read {
		out[at[i]], m.known[missing[i]] = h, h
	}
	return out, nil
}

// tree is the own journal's tree as it is now.
func (p *Post) tree() (tlog.HashReader, error) {
	hashes, err := p.cfg.Store.Hashes(p.own)
	if err != nil {
		return nil, err
	}
	return &memo{under: hashes, known: p.known}, nil
}

// mark is the first own mark that covers an entry, made where there is none.
func (p *Post) mark(ctx context.Context, entry uint64) (size uint64, note []byte, err error) {
	rows, err := p.cfg.Store.Scan(ctx, p.own, Mark, []any{p.own[:], int64(entry) + 1}, 1)
	if err != nil {
		return 0, nil, err
	}
	if len(rows) > 0 && journal.ID(rows[0][0].([]byte)) == p.own {
		return uint64(rows[0][1].(int64)), rows[0][2].([]byte), nil
	}
	size, at, err := p.cfg.Store.Stamp(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("stamping a mark: %w", err)
	}
	hashes, err := p.tree()
	if err != nil {
		return 0, nil, err
	}
	root, err := journal.Root(hashes, size)
	if err != nil {
		return 0, nil, err
	}
	if note, err = p.cfg.Key.Sign(journal.Checkpoint{Journal: p.own, Size: size, Root: root, Time: at}); err != nil {
		return 0, nil, err
	}
	// Kept before it is used: everybody below is given the same marks.
	_, errs := p.cfg.Store.Append(ctx, store.Command{Changes: []store.Change{
		{Table: Mark, Owner: p.own, Row: store.Row{p.own[:], int64(size), note, int64(0), nil}},
	}})
	if errs[0] != nil {
		return 0, nil, fmt.Errorf("keeping a mark: %w", errs[0])
	}
	return size, note, nil
}

// build makes the letter of an own Addressed entry.
func (p *Post) build(ctx context.Context, f *feed, r due) (*dubanv1.Letter, uint64, error) {
	size, note, err := p.mark(ctx, r.entry)
	if err != nil {
		return nil, 0, err
	}
	hashes, err := p.tree()
	if err != nil {
		return nil, 0, err
	}
	prove := func(e *journal.Entry) (*dubanv1.ProvenEntry, error) {
		proof, err := journal.ProveInclusion(hashes, size, e.Number)
		if err != nil {
			return nil, err
		}
		return &dubanv1.ProvenEntry{Header: e.Raw, Salt: e.Salt, Payload: e.Payload, Erased: e.Erased, Proof: toWire(proof)}, nil
	}
	own, err := p.cfg.Store.Read(ctx, p.own, r.entry, 1)
	if err != nil {
		return nil, 0, err
	}
	if len(own) == 0 || own[0].Kind != kindAddressed || own[0].Erased {
		return nil, 0, fault.New(fault.Corrupt, "entry %d was an Addressed entry and is none", r.entry)
	}
	var m dubanv1.Addressed
	if err := proto.Unmarshal(own[0].Payload, &m); err != nil {
		return nil, 0, fault.New(fault.Corrupt, "entry %d: %w", r.entry, err)
	}
	l := &dubanv1.Letter{Journal: p.own[:], Addressee: string(f.addressee), Checkpoint: note, Entries: make([]*dubanv1.ProvenEntry, 0, len(m.GetEntries()))}
	if l.Addressed, err = prove(&own[0]); err != nil {
		return nil, 0, err
	}
	err = p.read(ctx, m.GetEntries(), func(e *journal.Entry) error {
		proven, err := prove(e)
		l.Entries = append(l.Entries, proven)
		return err
	})
	if err == nil && len(l.Entries) != len(m.GetEntries()) {
		err = fault.New(fault.Corrupt, "entry %d names entries that are not there", r.entry)
	}
	return l, size, err
}

// Entries that lie close together are read together.
const (
	closeTogether = 4 // at most so many entries for each that is wanted
	runBytes      = 256 << 10
)

// read calls fn with the entries of the given numbers, ascending.
func (p *Post) read(ctx context.Context, numbers []uint64, fn func(*journal.Entry) error) error {
	for i := 0; i < len(numbers); {
		most := 1
		if ahead := min(16, len(numbers)-i); ahead > 1 && numbers[i+ahead-1]-numbers[i] < uint64(ahead*closeTogether) {
			most = runBytes
		}
		entries, err := p.cfg.Store.Read(ctx, p.own, numbers[i], most)
		if err != nil {
			return err
		}
		if len(entries) == 0 || entries[0].Number != numbers[i] {
			return nil
		}
		for k := range entries {
			if i < len(numbers) && entries[k].Number == numbers[i] {
				if err := fn(&entries[k]); err != nil {
					return err
				}
				i++
			}
		}
	}
	return nil
}

func toWire(proof []tlog.Hash) [][]byte {
	if len(proof) == 0 {
		return nil
	}
	block := make([]byte, 0, len(proof)*tlog.HashSize)
	out := make([][]byte, len(proof))
	for i, h := range proof {
		block = append(block, h[:]...)
		out[i] = block[i*tlog.HashSize : (i+1)*tlog.HashSize : (i+1)*tlog.HashSize]
	}
	return out
}

func fromWire(proof [][]byte) ([]tlog.Hash, error) {
	if len(proof) > 128 {
		return nil, fmt.Errorf("a proof of %d hashes", len(proof))
	}
	out := make([]tlog.Hash, len(proof))
	for i, h := range proof {
		if len(h) != tlog.HashSize {
			return nil, fmt.Errorf("a hash of %d bytes, expected %d", len(h), tlog.HashSize)
		}
		out[i] = tlog.Hash(h)
	}
	return out, nil
}

// joined and cut turn a proof into one value of a table and back.
func joined(proof [][]byte) []byte {
	var out []byte
	for _, h := range proof {
		out = append(out, h...)
	}
	return out
}

func cut(proof []byte) (out [][]byte) {
	for ; len(proof) >= tlog.HashSize; proof = proof[tlog.HashSize:] {
		out = append(out, proof[:tlog.HashSize:tlog.HashSize])
	}
	return out
}

// overhead is about what a letter takes beside its entries.
const overhead = journal.MaxCheckpoint + federation.EntryOverhead
