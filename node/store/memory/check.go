package memory

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf8"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
)

func (s *Store) checkCommand(c *store.Command) error {
	var l fault.List
	for i := range c.Entries {
		p := &c.Entries[i]
		field := func(name string) string { return fmt.Sprintf("entries[%d].%s", i, name) }
		if p.Stream == "" || len(p.Stream) > journal.MaxStream || !utf8.ValidString(p.Stream) {
			l.Add(field("stream"), "%d bytes, expected 1 to %d of UTF-8", len(p.Stream), journal.MaxStream)
		}
		if len(p.Actor) > journal.MaxActor || !utf8.ValidString(p.Actor) {
			l.Add(field("actor"), "%d bytes, at most %d of UTF-8 are allowed", len(p.Actor), journal.MaxActor)
		}
		if len(p.Payload) > journal.MaxPayload {
			l.Add(field("payload"), "%d bytes, at most %d are allowed", len(p.Payload), journal.MaxPayload)
		}
	}
	s.checkBeside(&l, c.Cursors, c.Changes)
	return l.Err(fault.Invalid, "the command is out of bounds")
}

func (s *Store) checkBeside(l *fault.List, cursors []store.Advance, changes []store.Change) {
	for i, a := range cursors {
		if a.Follower == "" || a.To < a.From || a.To > math.MaxInt64 {
			l.Add(fmt.Sprintf("cursors[%d]", i), "%q from %d to %d: a cursor has a name and only goes forward", a.Follower, a.From, a.To)
		}
	}
	for i := range changes {
		c := &changes[i]
		if c.Table == nil || !s.tables[c.Table] {
			l.Add(fmt.Sprintf("changes[%d].table", i), "not among the tables that followers own in this store")
		} else if err := fits(c.Table, c.Row, c.Delete && len(c.Row) == c.Table.Key); err != nil {
			l.Add(fmt.Sprintf("changes[%d].row", i), "%v", err)
		}
	}
}

func (s *Store) checkReplica(r *store.Replica) error {
	var l fault.List
	if r.Journal.IsZero() || r.Journal == s.Own() {
		l.Add("journal", "%s: expected another node's journal", r.Journal)
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		if e.Journal != r.Journal || e.Number != r.From+uint64(i) || !bytes.Contains(e.Raw, r.Journal[:]) {
			l.Add(fmt.Sprintf("entries[%d]", i), "is entry %d of journal %s, expected entry %d of %s", e.Number, e.Journal, r.From+uint64(i), r.Journal)
			break
		}
	}
	s.checkBeside(&l, r.Cursors, r.Changes)
	return l.Err(fault.Invalid, "the run of entries is malformed")
}
