package federation

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// KeepEvery says how many bytes of entries may pass between two rows of Checkpoint. A forwarded batch that can't end
// where it would like to is at most so much longer.
const KeepEvery = 256 << 10

// Checkpoint holds signed checkpoints of journals from below, by size: where a forwarded batch may end.
var Checkpoint = &store.Table{
	Name: "checkpoint",
	Columns: []store.Column{
		{Name: "size", Type: store.Int},
		{Name: "time_us", Type: store.Int},
		{Name: "note", Type: store.Blob},
	},
	Key: 1,
}

// Head holds the last accepted checkpoint of each journal from below, one row a journal. Its
// time is what the journal has witnessed: no entry to come was recorded earlier.
var Head = &store.Table{
	Name: "checkpoint_head",
	Columns: []store.Column{
		{Name: "size", Type: store.Int},
		{Name: "time_us", Type: store.Int},
		{Name: "note", Type: store.Blob},
	},
	Key: 0,
}

// Acknowledged holds, for the own journal and those forwarded, what the parent acknowledged last: the size that is durable
// there and the checkpoint with the parent's countersignature. One row a journal.
var Acknowledged = &store.Table{
	Name: "acknowledged",
	Columns: []store.Column{
		{Name: "size", Type: store.Int},
		{Name: "time_us", Type: store.Int}, // stated by the checkpoint
		{Name: "note", Type: store.Blob},
	},
	Key: 0,
}

// Witness says when whom a journal's entries were shown to: the earliest acceptance of a checkpoint of each size, by the
// node that accepted it. Of the acceptances within WitnessEvery the last is kept, so a time is late by less than that,
// never early. A row of an ancestor comes from its countersignature, in whole seconds, rounded down.
var Witness = &store.Table{
	Name: "witness",
	Columns: []store.Column{
		{Name: "witness", Type: store.Text}, // whose node accepted it
		{Name: "size", Type: store.Int},
		{Name: "time_us", Type: store.Int},     // stated by the checkpoint
		{Name: "accepted_us", Type: store.Int}, // by the witness's clock
		// The countersigned checkpoint, of the own journal only, where an ancestor other than the parent accepted it: the
		// parent is shown it when it is back.
		{Name: "note", Type: store.Blob, Null: true},
	},
	Key: 2,
}

// WitnessEvery is how close to each other, in microseconds, acceptances may lie of which only the last is kept.
const WitnessEvery = 1_000_000

// Ancestor holds, for the own journal and those below, the last checkpoint that each node above the parent countersigned.
var Ancestor = &store.Table{
	Name: "ancestor",
	Columns: []store.Column{
		{Name: "code", Type: store.Text}, // of the ancestor
		{Name: "size", Type: store.Int},
		{Name: "time_us", Type: store.Int},  // stated by the checkpoint
		{Name: "heard_us", Type: store.Int}, // when the countersignature came here, by the own clock
		{Name: "note", Type: store.Blob},
	},
	Key: 1,
}

// Announced holds the entry kinds that the parent and everything above it know, as it said last. One row, of the own
// journal; none where no parent ever said.
var Announced = &store.Table{
	Name: "announced",
	Columns: []store.Column{
		{Name: "kinds", Type: store.Text}, // numbers, ascending, a space between
		{Name: "heard_us", Type: store.Int},
	},
	Key: 0,
}

// PeerRefusal is folded from PeerRefused entries: which journals the writer of this journal takes no more of.
var PeerRefusal = &store.Table{
	Name: "peer_refusal",
	Columns: []store.Column{
		{Name: "peer", Type: store.Blob}, // the refused journal's id
		{Name: "code", Type: store.Text},
		{Name: "reason", Type: store.Text},
		{Name: "number", Type: store.Int}, // of the entry with the evidence
		{Name: "recorded_us", Type: store.Int},
	},
	Key: 1,
}

// PeerReadmission is folded from JournalReadmitted entries: the last one about each journal.
var PeerReadmission = &store.Table{
	Name: "peer_readmission",
	Columns: []store.Column{
		{Name: "peer", Type: store.Blob}, // the journal's id
		{Name: "number", Type: store.Int},
		{Name: "recorded_us", Type: store.Int},
	},
	Key: 1,
}

// Unapproved is folded from entries that came without a payload and whose journal has not approved that (PayloadErased)
// by now: whoever hides what was recorded is seen.
var Unapproved = &store.Table{
	Name:    "unapproved_erasure",
	Columns: []store.Column{{Name: "number", Type: store.Int}, {Name: "recorded_us", Type: store.Int}},
	Key:     1,
}

// Tables are those that uplink and downlink keep beside the folds.
func Tables() []*store.Table {
	return []*store.Table{Checkpoint, Head, Acknowledged, Witness, Ancestor, Announced}
}

// Fold folds refusals, readmissions, which lift them, and erasures that nobody approved.
func Fold() store.Fold {
	kinds := []uint32{uint32(dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED),
		uint32(dubanv1.EntryKind_ENTRY_KIND_JOURNAL_READMITTED), uint32(dubanv1.EntryKind_ENTRY_KIND_PAYLOAD_ERASED)}
	for _, k := range Kinds() {
		if Erasable(k) {
			kinds = append(kinds, k)
		}
	}
	return store.Fold{
		Name:    "federation",
		Version: 3,
		Tables:  []*store.Table{PeerRefusal, PeerReadmission, Unapproved},
		Kinds:   kinds,
		Apply: func(tx store.Tx, e *journal.Entry) error {
			if Erasable(e.Kind) {
				if e.Erased {
					tx.Put(Unapproved, store.Row{int64(e.Number), e.RecordedAt})
				}
				return nil
			}
			if e.Erased {
				return nil
			}
			if e.Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_PAYLOAD_ERASED) {
				var a dubanv1.PayloadErased
				if err := proto.Unmarshal(e.Payload, &a); err != nil {
					return fmt.Errorf("payload erased: %w", err)
				}
				tx.Delete(Unapproved, int64(a.GetNumber()))
				return nil
			}
			if e.Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_JOURNAL_READMITTED) {
				var r dubanv1.JournalReadmitted
				if err := proto.Unmarshal(e.Payload, &r); err != nil {
					return fmt.Errorf("journal readmitted: %w", err)
				}
				tx.Delete(PeerRefusal, r.GetJournal())
				tx.Put(PeerReadmission, store.Row{r.GetJournal(), int64(e.Number), e.RecordedAt})
				return nil
			}
			var p dubanv1.PeerRefused
			if err := proto.Unmarshal(e.Payload, &p); err != nil {
				return fmt.Errorf("peer refused: %w", err)
			}
			tx.Put(PeerRefusal, store.Row{p.GetJournal(), p.GetCode(), p.GetReason(), int64(e.Number), e.RecordedAt})
			return nil
		},
	}
}
