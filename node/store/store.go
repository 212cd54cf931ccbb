// Package store is the contract of a node's storage: one append-only journal of its own, replicas of the journals
// below, and the tables folded from them.
//
// What it promises, on every engine (storetest checks it):
//
//   - A command is in the journal and in the tables, or in neither. Answered means durable.
//   - Versions, cursors and keys are checked, and numbers and times given, in one order that every replica repeats.
//   - A command that fails fails alone; those committed with it are untouched.
//   - Folding is pure: the same entries give the same rows, here, on a replica and in a rebuild.
//   - Reads see everything that was answered before they began; one that needs files or tables which an engine writes
//     behind its answers waits for them.
//
// What it doesn't do: it knows no payload, no regulation and no network peer; it decides nothing that a stream version
// or a key does not decide.
package store

import (
	"context"
	"database/sql"

	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/node/journal"
)

// Type is a column's type.
type Type uint8

// The types. Values are int64, string and []byte; nil where a column is Null.
const (
	Int Type = iota
	Text
	Blob
)

// Column of a table.
type Column struct {
	Name string
	Type Type
	Null bool
}

// Index of a table for the queries that screens and runners make. Its first column is not the journal unless named.
type Index struct {
	Name    string
	Columns []string
	// Where limits the index to rows for which this SQL condition holds; empty for all rows.
	Where string
}

// Table holds rows folded from entries, or kept by a follower beside them. Its SQL columns are `journal` (an INTEGER,
// the Ordinal of the journal that the row belongs to), then Columns; its primary key is journal and the first Key
// columns. Tables are compared by pointer: declare each once.
type Table struct {
	Name    string
	Columns []Column
	Key     int
	Indexes []Index
}

// Row holds a table's values in the order of its Columns: int64, string, []byte or nil.
type Row []any

// Tx is what a fold may see: rows of its own journal, as of the entry.
type Tx interface {
	// Get returns the row with this key; the caller must not change it.
	Get(t *Table, key ...any) (Row, bool)
	// Put inserts or replaces a row. The engine keeps it: don't change it afterwards.
	Put(t *Table, row Row)
	// Delete removes a row, if it is there.
	Delete(t *Table, key ...any)
}

// Fold turns entries into rows. Apply is pure: entry and Tx in, puts and deletes out.
type Fold struct {
	Name    string
	Version int // a new version folds everything anew
	Tables  []*Table
	Kinds   []uint32 // the kinds that Apply wants to see
	// Apply folds one entry whose kind is among Kinds. Erased entries come without a payload. An error keeps the entry
	// out of this fold, in sight (see Status); it stops nothing.
	Apply func(tx Tx, e *journal.Entry) error
}

// Proposal is an entry before it has a number and a recording time.
type Proposal struct {
	Stream     string
	Kind       uint32
	Skippable  bool
	OccurredAt int64 // microseconds; 0 for the time of recording
	Actor      string
	Payload    []byte
	Salt       []byte   // by Seal
	Digest     [32]byte // by Seal
}

// Seal salts and digests a proposal; the caller's goroutine pays for it.
func (p *Proposal) Seal() {
	if p.Salt == nil {
		p.Salt = journal.NewSalt()
		p.Digest = journal.Digest(p.Salt, p.Payload)
	}
}

// Expect says on which version of a stream a command was decided: the number of its entries then.
type Expect struct {
	Stream  string
	Version uint64
}

// Advance moves a follower's cursor over a journal, from where the follower read it.
type Advance struct {
	Follower string
	Journal  journal.ID
	From, To uint64
}

// Change puts or deletes a row of a table that no fold owns (a follower's own table).
type Change struct {
	Table  *Table
	Owner  journal.ID // whose rows: the row's journal
	Row    Row        // the row, or with Delete its key columns
	Delete bool
}

// Command is decided already; committing it checks only that the decision still stands.
type Command struct {
	Expect  []Expect
	Entries []Proposal
	Cursors []Advance
	Changes []Change

	// Client and Key make the command idempotent: the same key with the same Request is answered as before, with
	// another Request it is refused (fault.Exists). Keys expire in recorded time.
	Client  string
	Key     string
	Request [32]byte

	// Natural is a key that never expires, such as the hash of a collected record; a command whose key is there is
	// answered as a duplicate and adds nothing. Empty for none.
	Natural string
}

// Result says where a command's entries stand.
type Result struct {
	First      uint64 // number of the first entry; the size of the journal where there was none
	Count      int
	RecordedAt int64 // microseconds
	Duplicate  bool  // it had been committed before: First and RecordedAt are of then
}

// Replica is a verified run of another journal's entries.
type Replica struct {
	Journal journal.ID
	From    uint64 // must be the size that this store has
	Entries []journal.Entry
	Changes []Change // committed with them, such as the checkpoint that covers them
	Cursors []Advance
}

// Info is the state of one journal in this store.
type Info struct {
	ID         journal.ID
	Ordinal    int64 // the value of the column `journal`
	Own        bool
	Size       uint64
	RecordedAt int64  // of the last entry
	Folded     uint64 // entries folded; less than Size while folding is stopped
	Stopped    string // why it is stopped: the unknown kind and its entry
}

// Queryer reads by SQL in one consistent view. `?`-style parameters are written $1, $2, ...
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Store is one replica of a node's storage. All methods may be called from many goroutines.
type Store interface {
	// Own is the id of the journal that this node writes.
	Own() journal.ID

	// Append commits commands, each atomic and each with its own outcome: errs[i] is nil where results[i] holds.
	// Kinds: fault.Conflict (a stream or cursor moved on: decide again), Exists (same key, other request), NotLeader,
	// Invalid (bounds), Unavailable (shutting down). Commands of concurrent callers share commits.
	Append(ctx context.Context, commands ...Command) (results []Result, errs []error)

	// AppendReplica commits a run of another journal's entries, which the caller has verified. From elsewhere than the
	// present size it fails with fault.Conflict.
	AppendReplica(ctx context.Context, replicas ...Replica) []error

	// Stamp gives, in order with appends, a size of the own journal and a time: no later entry bears an earlier
	// RecordedAt.
	Stamp(ctx context.Context) (size uint64, at int64, err error)

	// Read returns entries from number from on, in order, up to about max bytes and at least one where there is one.
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)

	// Erase removes salt and payload of an own entry that an entry of the journal approves to be erased. The caller has
	// checked that approval: an engine knows no kinds and asks for none. Reads that begin after the answer see it erased.
	Erase(ctx context.Context, id journal.ID, number uint64) error

	// Hashes reads the tree of a journal, for tlog's proofs and roots up to its size.
	Hashes(id journal.ID) (tlog.HashReader, error)

	// Journals lists the journals held, the own one first.
	Journals() []Info
	// Journal is the state of one.
	Journal(id journal.ID) (Info, bool)

	// Cursor is where a follower stands; 0 where it never moved.
	Cursor(ctx context.Context, follower string, id journal.ID) (uint64, error)
	// Version is the number of entries of a stream of the own journal.
	Version(ctx context.Context, stream string) (uint64, error)
	// Get reads one row of a journal by key, as fast as the engine can: a row that was just written costs no query. The
	// row is the caller's, but for the bytes of its blobs.
	Get(ctx context.Context, id journal.ID, t *Table, key ...any) (Row, bool, error)
	// Scan reads rows of a journal in key order, up to most, from the first whose leading key columns are not before
	// from; empty for all. What is stepped without SQL reads by Get and Scan alone.
	Scan(ctx context.Context, id journal.ID, t *Table, from []any, most int) ([]Row, error)
	// View runs fn over one consistent state of the tables.
	View(ctx context.Context, fn func(q Queryer) error) error

	// Watch returns a channel that is closed when further entries and rows can be read without waiting.
	Watch() <-chan struct{}
	// Lease waits until this replica leads. The context that it returns ends when it no longer does, or when ctx ends.
	Lease(ctx context.Context) (context.Context, error)
	// Leader is the address of the replica that leads, or "" while there is none.
	Leader() (address string, self bool)

	// Close stops the store after what was begun is durable.
	Close() error
}
