package letters

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/journal"
	"duban.internal/node/planted"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Sent is folded from Addressed entries: the letters that a journal's node has written, by addressee and first number.
var Sent = &store.Table{
	Name: "letter_sent",
	Columns: []store.Column{
		{Name: "addressee", Type: store.Text},
		{Name: "number", Type: store.Int}, // of the first entry, for this addressee
		{Name: "entry", Type: store.Int},  // number of the Addressed entry in the journal
		{Name: "entries", Type: store.Int},
	},
	Key: 2,
}

// Next is folded from Addressed entries: where each addressee's numbers stand.
var Next = &store.Table{
	Name: "letter_next",
	Columns: []store.Column{
		{Name: "addressee", Type: store.Text},
		{Name: "next", Type: store.Int},
		{Name: "through", Type: store.Int}, // highest number, in the journal, of an entry that was addressed
	},
	Key: 1,
}

// Fold folds what was addressed.
func Fold() store.Fold {
	return store.Fold{
		Name:    "letters",
		Version: 1,
		Tables:  []*store.Table{Sent, Next},
		Kinds:   []uint32{kindAddressed},
		Apply: func(tx store.Tx, e *journal.Entry) error {
			if e.Erased {
				return nil
			}
			var m dubanv1.Addressed
			if err := proto.Unmarshal(e.Payload, &m); err != nil {
				return fmt.Errorf("addressed: %w", err)
			}
			n := len(m.GetEntries())
			if n == 0 {
				return fmt.Errorf("addressed: no entries")
			}
			tx.Put(Sent, store.Row{m.GetAddressee(), int64(m.GetNumber()), int64(e.Number), int64(n)})
			if planted.On("fold.number-skipped") {
				n++
			}
			tx.Put(Next, store.Row{m.GetAddressee(), int64(m.GetNumber()) + int64(n), int64(m.GetEntries()[len(m.GetEntries())-1])})
			return nil
		},
	}
}

// The tables below are kept beside the folds. Their rows belong to the own journal.
var (
	// Alert says in which journal the case of an alert lies that this node opened a level of.
	Alert = &store.Table{
		Name:    "letter_alert",
		Columns: []store.Column{{Name: "alert_id", Type: store.Text}, {Name: "case_journal", Type: store.Blob}},
		Key:     1,
	}
	// Mark holds the checkpoints that letters are proven under: the own ones, and those taken from above with the proof by
	// which they were.
	Mark = &store.Table{
		Name: "letter_mark",
		Columns: []store.Column{
			{Name: "sender", Type: store.Blob}, // its journal
			{Name: "size", Type: store.Int},
			{Name: "note", Type: store.Blob},
			{Name: "since", Type: store.Int},              // size of the mark before; 0 for none
			{Name: "proof", Type: store.Blob, Null: true}, // consistency from there, 32 bytes a hash; own marks have none
		},
		Key: 2,
	}
	// Head holds the last checkpoint taken of each sender, and why its letters are not taken any more.
	Head = &store.Table{
		Name: "letter_head",
		Columns: []store.Column{
			{Name: "sender", Type: store.Blob},
			{Name: "size", Type: store.Int},
			{Name: "note", Type: store.Blob},
			{Name: "blocked", Type: store.Text}, // empty where they are
		},
		Key: 1,
	}
	// At says how far letters have come, by sender and addressee: the own jurisdiction or one below.
	At = &store.Table{
		Name: "letter_at",
		Columns: []store.Column{
			{Name: "sender", Type: store.Blob}, {Name: "addressee", Type: store.Text},
			{Name: "next", Type: store.Int},  // number wanted
			{Name: "entry", Type: store.Int}, // number of the last Addressed entry in the sender's journal
		},
		Key: 2,
	}
	// Letter holds letters for jurisdictions below, as they came. They stay: a child that was restored asks again.
	Letter = &store.Table{
		Name: "letter",
		Columns: []store.Column{
			{Name: "sender", Type: store.Blob}, {Name: "addressee", Type: store.Text}, {Name: "number", Type: store.Int},
			{Name: "entry", Type: store.Int},   // number of the Addressed entry in the sender's journal
			{Name: "entries", Type: store.Int}, // how many are in it
			{Name: "mark", Type: store.Int},    // size of its checkpoint
			{Name: "letter", Type: store.Blob}, // duban.v1.Letter
		},
		Key: 3,
	}
)

// Tables are those that are kept beside the folds.
func Tables() []*store.Table { return []*store.Table{Alert, Mark, Head, At, Letter} }

const (
	kindAddressed = uint32(dubanv1.EntryKind_ENTRY_KIND_ADDRESSED)
	kindReceived  = uint32(dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE)
	kindRefused   = uint32(dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED)
)

// head is a row of Head.
type head struct {
	size    uint64
	note    []byte
	blocked string
	point   journal.Checkpoint
}

func headOf(row store.Row) (h head, err error) {
	h = head{size: uint64(row[1].(int64)), blocked: row[3].(string)}
	h.note, _ = row[2].([]byte)
	if len(h.note) > 0 {
		h.point, err = journal.ParseCheckpoint(h.note)
	}
	return h, err
}

func (h head) change(own, sender journal.ID) store.Change {
	return store.Change{Table: Head, Owner: own, Row: store.Row{sender[:], int64(h.size), h.note, h.blocked}}
}
