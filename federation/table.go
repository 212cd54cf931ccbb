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

// Tables are those that uplink and downlink keep beside the folds.
func Tables() []*store.Table { return []*store.Table{Checkpoint, Head, Acknowledged} }

// Fold folds refusals.
func Fold() store.Fold {
	return store.Fold{
		Name:    "federation",
		Version: 1,
		Tables:  []*store.Table{PeerRefusal},
		Kinds:   []uint32{uint32(dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED)},
		Apply: func(tx store.Tx, e *journal.Entry) error {
			if e.Erased {
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
