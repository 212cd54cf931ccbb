package downlink

import (
	"bytes"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/planted"
	"duban.internal/node/store"
)

// Copy is what the parent has verified of one journal from below, ahead of what is stored. A message goes in; out comes what to
// store, or why not. It asks no clock and no disk.
type Copy struct {
	id   journal.ID
	key  *journal.PublicKey
	edge journal.Frontier

	recorded int64              // recording time of the last entry
	last     journal.Checkpoint // last accepted
	note     []byte             // last accepted, as signed; nil where there is none

	kept  uint64 // size of the row of federation.Checkpoint that stays
	since int    // bytes of entries since then

	refused string // why nothing more is taken
}

// State is what a Copy goes on from.
type State struct {
	Key      *journal.PublicKey
	Edge     journal.Frontier // of the stored tree
	Recorded int64            // of the last entry stored
	Note     []byte           // the last accepted checkpoint; nil where there is none
	Refused  string           // why nothing more is taken; empty where it is
	// Readmitted is one more than the number of the entry by which the journal was taken again after a refusal; 0 for none.
	Readmitted uint64
}

// NewCopy goes on from what is stored.
func NewCopy(s State) (*Copy, error) {
	c := &Copy{id: s.Key.Journal(), key: s.Key, edge: s.Edge, recorded: s.Recorded, note: s.Note, refused: s.Refused, kept: s.Edge.Size()}
	if s.Note == nil {
		return c, nil
	}
	var err error
	if c.last, err = journal.ParseCheckpoint(s.Note); err != nil {
		return nil, fault.New(fault.Corrupt, "journal %s: stored checkpoint: %w", c.id, err)
	}
	return c, nil
}

// Size is how many entries are verified.
func (c *Copy) Size() uint64 { return c.edge.Size() }

// Refused says why nothing more is taken of this journal; empty where it is.
func (c *Copy) Refused() string { return c.refused }

// Refusal is why a journal is not taken any further. Other journals of the same stream go on.
type Refusal struct {
	Journal journal.ID
	Reason  string
	From    uint64 // first entry number that was refused
	// Proven is true where the journal's own signature is under what contradicts what was accepted before, or where its
	// writer presented what contradicts the signature that came with it: evidence that is kept, and no more is taken of
	// the journal from anybody. Otherwise whoever presented it sent what nobody signed; it may do better next time.
	Proven   bool
	Accepted []byte // the last accepted checkpoint, if any
	Refused  []byte // the checkpoint that was refused
}

// Error is the reason.
func (r *Refusal) Error() string { return fmt.Sprintf("journal %s: %s", r.Journal, r.Reason) }

// Taken is what was verified and may be stored.
type Taken struct {
	Journal    journal.ID
	From       uint64
	Entries    []journal.Entry // none for a heartbeat
	Checkpoint journal.Checkpoint
	Note       []byte
	Drop       uint64 // row of federation.Checkpoint that this one replaces; 0 for none
	Bytes      int
	Stale      bool // no later checkpoint than is known: nothing to store

	signed []signature    // countersignatures of ancestors that it came with
	beside []store.Change // rows of federation.Witness
}

// Changes are the rows that go with what was taken.
func (t *Taken) Changes() []store.Change {
	if t.Stale {
		return nil
	}
	size, at := int64(t.Checkpoint.Size), t.Checkpoint.Time
	changes := []store.Change{{Table: federation.Head, Owner: t.Journal, Row: store.Row{size, at, t.Note}}}
	if len(t.Entries) > 0 {
		changes = append(changes, store.Change{Table: federation.Checkpoint, Owner: t.Journal, Row: store.Row{size, at, t.Note}})
	}
	if t.Drop > 0 {
		changes = append(changes, store.Change{Table: federation.Checkpoint, Owner: t.Journal, Row: store.Row{int64(t.Drop)}, Delete: true})
	}
	return append(changes, t.beside...)
}

// Take verifies a message about the journal. own says that its writer presents it. Errors: *Refusal ends the taking of this
// journal; a fault means that the two ends do not agree where they stand, and the stream begins anew. Where the checkpoint
// is of a smaller size than is verified, Older has to judge it: older is true and nothing is taken yet.
func (c *Copy) Take(o *Opened, own bool) (t *Taken, older bool, err error) {
	size := c.edge.Size()
	batch := o.message.GetBatch() != nil
	if !o.read {
		return nil, false, fault.New(fault.Invalid, "journal %s: a message that can't be taken", c.id)
	}
	if batch && o.from != size && planted.On("downlink.gap-is-forgery") {
		return nil, false, c.refuse(true, size, o.note, "planted")
	}
	if batch && o.from > size {
		return nil, false, fault.New(fault.Conflict, "journal %s: batch from %d, expected %d", c.id, o.from, size)
	}
	if batch && len(o.message.GetBatch().GetEntries()) == 0 {
		return nil, false, fault.New(fault.Invalid, "journal %s: batch without entries", c.id)
	}
	if o.pointEr != nil {
		return nil, false, c.refuse(false, size, o.note, "%v", o.pointEr)
	}
	if want := o.from + uint64(len(o.entries)); batch && o.point.Size != want {
		return nil, false, fault.New(fault.Invalid, "journal %s: batch up to %d with a checkpoint of %d", c.id, want, o.point.Size)
	}
	if o.point.Size <= size || !batch { // a batch whose entries all came before, by another stream perhaps, is a checkpoint
		return c.heartbeat(o)
	}
	t, err = c.batch(o, own)
	return t, false, err
}

// batch verifies entries beyond those that are verified. What the batch has of earlier ones is left aside: the root is
// reckoned over those that were accepted.
func (c *Copy) batch(o *Opened, own bool) (*Taken, error) {
	size, point := c.edge.Size(), o.point
	t := &Taken{Journal: c.id, From: size, Checkpoint: point, Note: o.note, signed: o.signed}
	t.Entries = o.entries[size-o.from:]
	edge, recorded := c.edge.Clone(), c.recorded
	var wrong string // the first thing that is; the others say whose doing it was
	say := func(format string, args ...any) {
		if wrong == "" {
			wrong = fmt.Sprintf(format, args...)
		}
	}
	for i := range t.Entries {
		e, number := &t.Entries[i], size+uint64(i)
		if at := int(number - o.from); at >= o.badAt {
			say("entry %d: %v", number, o.bad)
			return nil, c.refuse(own, size, o.note, "%s", wrong)
		}
		switch {
		case e.Journal != c.id:
			say("entry %d is of journal %s", number, e.Journal)
		case e.Number != number:
			say("entry %d stands where %d is expected", e.Number, number)
		case e.RecordedAt < recorded:
			say("entry %d was recorded before the entry before it", number)
		case c.note != nil && e.RecordedAt < c.last.Time:
			say("entry %d was recorded before the time that the checkpoint of size %d states", number, c.last.Size)
		}
		recorded = max(recorded, e.RecordedAt)
		edge.Append(o.leaves[number-o.from])
		t.Bytes += len(e.Raw) + len(e.Payload) + federation.EntryOverhead/4
	}
	signed := edge.Root() == point.Root // by the journal's key, whoever presents them
	if !signed {
		say("the entries from %d on, after those accepted before, have another root than the checkpoint of size %d states: "+
			"an entry was changed, left out or put in", size, point.Size)
	} else if point.Time < recorded || c.note != nil && point.Time < c.last.Time {
		say("the checkpoint of size %d states an earlier time than what was recorded before it", point.Size)
	}
	if wrong != "" {
		return nil, c.refuse(own || signed, size, o.note, "%s", wrong)
	}
	c.edge, c.recorded = edge, recorded
	c.accept(point, t.Note)
	t.Drop = c.thin(size, t.Bytes)
	return t, nil
}

// thin decides which row of federation.Checkpoint is no longer needed, now that entries were taken from size before on.
func (c *Copy) thin(before uint64, bytes int) (drop uint64) {
	if c.since+bytes <= federation.KeepEvery {
		c.since += bytes
		if before != c.kept {
			drop = before
		}
		return drop
	}
	c.kept, c.since = before, bytes
	return 0
}

// heartbeat verifies a checkpoint that brings no entries.
func (c *Copy) heartbeat(o *Opened) (t *Taken, older bool, err error) {
	point, note := o.point, o.note
	t = &Taken{Journal: c.id, From: point.Size, Checkpoint: point, Note: note}
	switch {
	case point.Size > c.Size():
		return nil, false, fault.New(fault.Conflict, "journal %s: heartbeat of size %d, here are %d entries", c.id, point.Size, c.Size())
	case point.Size < c.Size():
		return t, true, nil
	case point.Root != c.edge.Root():
		return nil, false, c.refuse(true, point.Size, note, "another root at size %d than the one accepted: the journal was forked", point.Size)
	case point.Time < c.recorded:
		return nil, false, c.refuse(true, point.Size, note, "the checkpoint of size %d states an earlier time than its last entry", point.Size)
	case c.note != nil && point.Time <= c.last.Time:
		t.Stale = true
		return t, false, nil
	}
	c.accept(point, note)
	return t, false, nil
}

// Older judges a heartbeat of a smaller size, given the root that the stored tree had at that size and the recording time
// of the entry that came next: a checkpoint that is only late is stale, one that was signed after that entry takes back
// what was acknowledged.
func (c *Copy) Older(t *Taken, root tlog.Hash, next int64) error {
	switch {
	case t.Checkpoint.Root != root:
		return c.refuse(true, t.Checkpoint.Size, t.Note, "another root at size %d than the one accepted: the journal was forked", t.Checkpoint.Size)
	case t.Checkpoint.Time > next || planted.On("downlink.late-is-rollback"):
		return c.refuse(true, t.Checkpoint.Size, t.Note,
			"size %d, and %d entries were accepted before that time: the journal was rolled back", t.Checkpoint.Size, c.Size())
	}
	t.Stale = true
	return nil
}

func (c *Copy) accept(point journal.Checkpoint, note []byte) {
	c.last, c.note = point, bytes.Clone(note)
}

func (c *Copy) refuse(proven bool, from uint64, note []byte, format string, args ...any) error {
	reason := fmt.Sprintf(format, args...)
	if proven {
		c.refused = reason
	}
	if len(note) > journal.MaxCheckpoint {
		note = note[:journal.MaxCheckpoint]
	}
	return &Refusal{Journal: c.id, Reason: reason, From: from, Proven: proven, Accepted: c.note, Refused: bytes.Clone(note)}
}
