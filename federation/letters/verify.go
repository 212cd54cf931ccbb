package letters

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Kinds of wrong. What the sender's own signatures prove ends the taking of its letters.
const (
	wrongSender    = "sender"    // not a journal above
	wrongAddressee = "addressee" // neither this jurisdiction nor one below
	wrongSignature = "signature" // no checkpoint by the sender's key
	wrongLink      = "link"      // no proof that the checkpoint continues what is kept
	wrongEntry     = "entry"     // not what the checkpoint covers, or not what the letter says it is
	wrongGap       = "gap"       // numbers left out
	provenFork     = "fork"      // two roots of one size
	provenTime     = "time"      // time that runs back
	provenNumber   = "number"    // a number given twice
)

// refusal is why a letter isn't taken.
type refusal struct {
	kind   string // empty where no evidence is kept
	proven bool   // by the sender's own signatures
	again  bool   // may come right when more is sent, so it isn't held against anybody at once
	reason string
	from   uint64 // number in the sender's journal, of the first entry that is refused
}

// Error is the reason.
func (r *refusal) Error() string { return r.reason }

func refuse(kind, format string, args ...any) *refusal {
	return &refusal{kind: kind, reason: fmt.Sprintf(format, args...), again: kind == wrongGap,
		proven: kind == provenFork || kind == provenTime || kind == provenNumber}
}

// link says how a checkpoint stands to what is kept.
type link uint8

const (
	linkFirst link = iota // nothing was kept
	linkSame              // the root is known
	linkLater             // continues what is kept
	linkEarlier
)

// marks are those taken before that lie next to a checkpoint; nil where there is none.
type marks struct {
	same *journal.Checkpoint // of its size
	next *journal.Checkpoint // the first of a larger size
}

// linked checks a checkpoint against the kept one and the marks that were taken.
func linked(h head, point journal.Checkpoint, near marks, m *dubanv1.SyncLetter) (link, *refusal) {
	if h.size == 0 && h.note == nil {
		return linkFirst, nil
	}
	older, newer := h.point, point
	if point.Size < h.size {
		older, newer = point, h.point
	}
	switch {
	case point.Size == h.size && point.Root != h.point.Root:
		return 0, refuse(provenFork, "another root at size %d than the one taken before: the journal was forked", point.Size)
	case near.same != nil && point.Root != near.same.Root:
		return 0, refuse(provenFork, "another root at size %d than the one taken before: the journal was forked", point.Size)
	case newer.Time < older.Time && newer.Size > older.Size:
		return 0, refuse(provenTime, "the checkpoint of size %d states an earlier time than the one of size %d", newer.Size, older.Size)
	case point.Size == h.size, near.same != nil:
		return linkSame, nil
	case m.GetConsistentFrom() != older.Size && newer.Size == point.Size:
		return 0, stale(m, h)
	}
	proof, err := fromWire(m.GetConsistency())
	if err == nil && newer.Size == point.Size {
		if err = point.Extends(h.point, proof); err == nil {
			return linkLater, nil
		}
		return 0, refuse(wrongLink, "the checkpoint of size %d is not shown to continue the one of size %d: %v", newer.Size, older.Size, err)
	}
	if err == nil && m.GetConsistentFrom() == point.Size {
		if near.next != nil && near.next.Extends(point, proof) == nil {
			return linkEarlier, nil
		}
		if err = h.point.Extends(point, proof); err == nil {
			return linkEarlier, nil
		}
	}
	if m.GetConsistentFrom() != point.Size {
		return 0, stale(m, h) // told what is kept, the sender leads back, or is silent
	}
	// It can't be told from a fork, and whoever sent it may not be able to do better: not held against anybody.
	return 0, &refusal{again: true, reason: fmt.Sprintf("nothing leads from the checkpoint of size %d to one that was taken before; kept is one of size %d", point.Size, h.size)}
}

// stale is what was sent before its sender knew what is kept here.
func stale(m *dubanv1.SyncLetter, h head) *refusal {
	return &refusal{again: true, reason: fmt.Sprintf("its proof begins at size %d, and kept is a checkpoint of size %d", m.GetConsistentFrom(), h.size)}
}

// opened is a letter that was checked in itself.
type opened struct {
	addressed journal.Entry
	number    uint64 // of its first entry, for the addressee
	count     uint64
	entries   []journal.Entry
}

// open checks everything that a letter says under its checkpoint, and that nothing was recorded before the kept
// checkpoint's time that lies beyond its size.
func open(l *dubanv1.Letter, point journal.Checkpoint, h head) (o opened, wrong *refusal) {
	check := func(p *dubanv1.ProvenEntry, what string) (journal.Entry, *refusal) {
		e, err := journal.Open(p.GetHeader(), p.GetSalt(), p.GetPayload(), p.GetErased())
		if err != nil {
			return e, refuse(wrongEntry, "%s: %v", what, err)
		}
		if e.Journal != point.Journal {
			return e, refuse(wrongEntry, "%s is of journal %s", what, e.Journal)
		}
		proof, err := fromWire(p.GetProof())
		if err == nil {
			err = point.Includes(e.Number, e.Raw, proof)
		}
		if err != nil {
			return e, refuse(wrongEntry, "%s: entry %d is not shown to be in the journal: %v", what, e.Number, err)
		}
		// From here on the sender's signature is under what the entry's header says.
		var bad *refusal
		switch {
		case e.RecordedAt > point.Time:
			bad = refuse(provenTime, "entry %d was recorded after the time that the checkpoint of size %d states", e.Number, point.Size)
		case h.note != nil && e.Number >= h.size && e.RecordedAt < h.point.Time:
			bad = refuse(provenTime, "entry %d was recorded before the time that the checkpoint of size %d states", e.Number, h.size)
		}
		if bad != nil {
			bad.from = e.Number
		}
		return e, bad
	}
	if o.addressed, wrong = check(l.GetAddressed(), "the Addressed entry"); wrong != nil {
		return o, wrong
	}
	var m dubanv1.Addressed
	if o.addressed.Kind != kindAddressed || o.addressed.Erased {
		return o, refuse(wrongEntry, "entry %d is no Addressed entry", o.addressed.Number)
	}
	if err := proto.Unmarshal(o.addressed.Payload, &m); err != nil {
		return o, refuse(wrongEntry, "entry %d is no Addressed entry: %v", o.addressed.Number, err)
	}
	o.number, o.count = m.GetNumber(), uint64(len(m.GetEntries()))
	switch {
	case m.GetAddressee() != l.GetAddressee():
		return o, refuse(wrongAddressee, "entry %d addresses %.20q, and the letter is for %.20q", o.addressed.Number, m.GetAddressee(), l.GetAddressee())
	case o.count == 0, o.number > journal.MaxSize:
		return o, refuse(wrongEntry, "entry %d gives %d entries from number %d on", o.addressed.Number, o.count, o.number)
	case len(l.GetEntries()) != len(m.GetEntries()):
		return o, refuse(wrongEntry, "entry %d names %d entries, and the letter has %d", o.addressed.Number, o.count, len(l.GetEntries()))
	}
	o.entries = make([]journal.Entry, o.count)
	for i, p := range l.GetEntries() {
		number := m.GetEntries()[i]
		if o.entries[i], wrong = check(p, "an entry of the letter"); wrong != nil {
			return o, wrong
		}
		if o.entries[i].Number != number || number >= o.addressed.Number || i > 0 && number <= m.GetEntries()[i-1] {
			return o, refuse(wrongEntry, "entry %d stands where entry %d names %d", o.entries[i].Number, o.addressed.Number, number)
		}
	}
	return o, nil
}
