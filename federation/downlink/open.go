package downlink

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Opened is a child's message with what can be checked of it without knowing where its journal stands: signatures, digests
// and leaf hashes. Making one is most of the work of taking a batch, and may be done by many goroutines.
type Opened struct {
	message *dubanv1.SyncRequest
	bytes   int // on the wire, uncompressed

	read    bool // what follows was looked at
	id      journal.ID
	idErr   error
	from    uint64 // of a batch
	entries []journal.Entry
	leaves  []tlog.Hash
	badAt   int // the first entry that can't be read; len(entries) where all can
	bad     error
	note    []byte
	point   journal.Checkpoint
	pointEr error // why the checkpoint is not believed
	signed  []signature
}

// signature is an ancestor's countersignature under a checkpoint: when it accepted it.
type signature struct {
	by jurisdiction.Code
	at int64
}

// Open checks a message by itself.
func Open(tree *topology.Tree, m *dubanv1.SyncRequest) *Opened {
	o := &Opened{message: m, bytes: proto.Size(m)}
	var raw []byte
	switch {
	case m.GetBatch() != nil:
		raw, o.note, o.from = m.GetBatch().GetJournal(), m.GetBatch().GetCheckpoint(), m.GetBatch().GetFrom()
	case m.GetHeartbeat() != nil:
		raw, o.note = m.GetHeartbeat().GetJournal(), m.GetHeartbeat().GetCheckpoint()
	default:
		return o
	}
	if o.id, o.idErr = journal.IDFrom(raw); o.idErr != nil {
		return o
	}
	n, ok := tree.Journal(o.id)
	if !ok || len(m.GetBatch().GetEntries()) > maxEntries || o.bytes > federation.MaxMessage {
		return o // refused by the core for that
	}
	o.open(n.Key)
	for above, ok := tree.Node(n.Parent); ok && o.pointEr == nil; above, ok = tree.Node(above.Parent) {
		if at, err := above.Key.Witnessed(o.note); err == nil {
			o.signed = append(o.signed, signature{above.Code, at})
		}
	}
	return o
}

// open reads the checkpoint and the entries.
func (o *Opened) open(key *journal.PublicKey) {
	o.read = true
	if o.point, o.pointEr = key.Open(o.note); o.pointEr != nil {
		return
	}
	wire := o.message.GetBatch().GetEntries()
	o.entries, o.leaves, o.badAt = make([]journal.Entry, len(wire)), make([]tlog.Hash, len(wire)), len(wire)
	for i, w := range wire {
		var err error
		if o.entries[i], err = journal.Open(w.GetHeader(), w.GetSalt(), w.GetPayload(), w.GetErased()); err != nil {
			o.badAt, o.bad = i, err
			return
		}
		if k := o.entries[i].Kind; o.entries[i].Erased && !federation.Erasable(k) {
			o.badAt, o.bad = i, fmt.Errorf("kind %d came without its payload, and entries of that kind are never erased", k)
			return
		}
		o.leaves[i] = journal.LeafHash(o.entries[i].Raw)
	}
}
