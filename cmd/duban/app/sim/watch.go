package sim

import (
	"bytes"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alertview"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// The invariants that are looked at whenever a node has written something:
//
//   - A copy of a journal is the beginning of that journal, entry by entry and by its root, and never more of it than is
//     durable where it is written.
//   - A level of a round of an alert is opened once, in all journals together.
//   - No level opens before its time, by the clock of who opens it; its limit counts from the due time of the one below.
//   - No level opens over one of which this node knows that it was handled in time.
//   - A level is withdrawn only for an entry that its writer has, durable, recorded before the limit ended; as witnessed only where a
//     checkpoint over it was accepted within the grace.
//   - A request is recorded once, however often it is asked.
//   - The silence of a node is concluded only after the grace, and never of one that was up, with its lines whole, all along.
//   - What a parent acknowledges is durable there.
//   - Who was answered finds the entry, whatever crashed since.
//
// Of what was not synced nothing is remembered when its node crashes.

// eyes is what was looked at of a node's disk.
type eyes struct {
	own    uint64
	copies map[journal.ID]uint64
	undo   []func() // to forget what is not synced
	told   []told
}

// told is an answer that somebody got.
type told struct {
	number uint64
	raw    []byte
}

// sight is what was seen in all journals together.
type sight struct {
	levels   map[levelKey]*level
	records  map[string]bool // of cases, whole
	kinds    [64]int
	refusals int
	silent   int // levels opened for want of word
	claimed  int
	witness  int
	around   int // how often a node went around its parent
}

type levelKey struct {
	alert        string
	round, level uint32
}

type level struct {
	writer    *node
	number    uint64
	recorded  int64
	opening   *dubanv1.LevelOpened
	due       int64 // now, perhaps counted anew
	handled   int64 // 0 for not
	late      bool
	withdrawn bool
	reopened  bool
}

func newSight() sight { return sight{levels: map[levelKey]*level{}, records: map[string]bool{}} }

// opened begins to look at a disk as it is.
func (n *node) opened() {
	n.eyes.copies = map[journal.ID]uint64{}
	n.seenAll()
}

func (n *node) seenAll() {
	n.eyes.own = uint64(len(n.disk.Entries(n.own)))
	for _, other := range n.h.nodes {
		if other != n {
			n.eyes.copies[other.own] = uint64(len(n.disk.Entries(other.own)))
		}
	}
}

// forget goes back to what the disk has after a crash.
func (n *node) forget() {
	for i := len(n.eyes.undo) - 1; i >= 0; i-- {
		n.eyes.undo[i]()
	}
	n.eyes.undo = n.eyes.undo[:0]
	n.seenAll()
}

// restarted looks for everything that was answered.
func (n *node) restarted() {
	entries := n.disk.Entries(n.own)
	for _, t := range n.eyes.told {
		if t.number >= uint64(len(entries)) || !bytes.Equal(entries[t.number].Raw, t.raw) {
			n.h.fail(n, "what was answered is there", "entry %d, of %d, is not the one that was answered", t.number, len(entries))
			return
		}
	}
}

func (n *node) answered(r *dubanv1.Receipt) {
	entries := n.disk.Entries(n.own)
	n.trace("answers", "", int64(r.GetNumber()), 0)
	if r.GetNumber() >= uint64(len(entries)) {
		n.h.fail(n, "what was answered is there", "entry %d was answered and there are %d", r.GetNumber(), len(entries))
		return
	}
	n.eyes.told = append(n.eyes.told, told{r.GetNumber(), entries[r.GetNumber()].Raw})
}

// look judges what was written to the own journal since it last looked.
func (n *node) look() {
	entries := n.disk.Entries(n.own)
	for ; n.eyes.own < uint64(len(entries)); n.eyes.own++ {
		n.judge(&entries[n.eyes.own])
	}
}

// compare holds what came of other journals against those.
func (n *node) compare(replicas []store.Replica) {
	for i := range replicas {
		id := replicas[i].Journal
		got := n.disk.Entries(id)
		from := n.eyes.copies[id]
		if from >= uint64(len(got)) {
			continue
		}
		m, _ := n.h.city.tree.Journal(id)
		owner := n.h.by[m.Code]
		want := owner.disk.Entries(id)
		if len(got) > owner.durable() {
			n.h.fail(n, "a copy is of what is durable", "%d entries of the journal of %s, where %d are durable", len(got), owner.name, owner.durable())
			return
		}
		for k := from; k < uint64(len(got)); k++ {
			if !bytes.Equal(got[k].Raw, want[k].Raw) || !bytes.Equal(got[k].Payload, want[k].Payload) {
				n.h.fail(n, "a copy is the beginning of its journal", "entry %d of the journal of %s is another", k, owner.name)
				return
			}
		}
		a, b := n.root(id, len(got)), owner.root(id, len(got))
		if a != b {
			n.h.fail(n, "a copy is the beginning of its journal", "the journal of %s has another root at %d", owner.name, len(got))
			return
		}
		n.trace("copies", owner.name, int64(from), int64(len(got)))
		n.eyes.copies[id] = uint64(len(got))
	}
}

func (n *node) root(id journal.ID, size int) string {
	root, err := journal.Root(n.disk.Tree(id), uint64(size))
	if err != nil {
		return err.Error()
	}
	return root.String()
}

// durable is how many entries of the own journal survive a crash.
func (n *node) durable() int { return n.disk.Durable(n.own) }

// judge looks at one entry that this node has just written.
func (n *node) judge(e *journal.Entry) {
	h := n.h
	if e.Kind < uint32(len(h.sight.kinds)) {
		h.sight.kinds[e.Kind]++
	}
	n.trace("writes", e.Stream, int64(e.Number), int64(e.Kind))
	if payload(e) != nil {
		key := n.name + e.Stream + string(rune(e.Kind)) + string(e.Payload)
		if h.sight.records[key] {
			h.fail(n, "a request is recorded once", "entry %d of %s was there before", e.Number, e.Stream)
		}
		h.sight.records[key] = true
		n.eyes.undo = append(n.eyes.undo, func() { delete(h.sight.records, key) })
	}
	switch dubanv1.EntryKind(e.Kind) {
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED:
		o := new(dubanv1.LevelOpened)
		if n.reads(e, o) {
			n.opens(e, o)
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED:
		m := new(dubanv1.LevelHandled)
		if n.reads(e, m) {
			n.handles(e, m)
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN:
		m := new(dubanv1.LevelWithdrawn)
		if n.reads(e, m) {
			n.withdraws(e, m)
		}
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED:
		m := new(dubanv1.LevelReopened)
		if l := n.known(e, m, m); l != nil {
			before := *l
			l.reopened, l.due = true, m.GetDueUs()
			n.eyes.undo = append(n.eyes.undo, func() { *l = before })
		}
	case dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED:
		h.fail(n, "no honest journal is refused", "%q", e.Payload)
	}
}

func (n *node) reads(e *journal.Entry, m proto.Message) bool {
	if err := proto.Unmarshal(e.Payload, m); err != nil {
		n.h.fail(n, "entries can be read", "entry %d: %v", e.Number, err)
		return false
	}
	return true
}

func (n *node) opens(e *journal.Entry, o *dubanv1.LevelOpened) {
	h := n.h
	key := levelKey{o.GetAlertId(), o.GetRound(), o.GetLevel()}
	if was := h.sight.levels[key]; was != nil {
		h.fail(n, "a level is opened once", "alert %.12s round %d level %d was opened by %s, entry %d, and now by entry %d here",
			key.alert, key.round, key.level, was.writer.name, was.number, e.Number)
		return
	}
	if o.GetReceiver() != string(n.code) {
		h.fail(n, "who receives a level opens it", "alert %.12s level %d is received by %s", key.alert, key.level, o.GetReceiver())
	}
	// A dispute counts from the clock of who wrote it.
	if slack := h.slack(o); e.RecordedAt+slack < o.GetStartUs() {
		h.fail(n, "nothing is early", "alert %.12s round %d level %d was opened %d µs before %d", key.alert, key.round, key.level, o.GetStartUs()-e.RecordedAt, o.GetStartUs())
	}
	below := h.sight.levels[levelKey{key.alert, key.round, key.level - 1}]
	if below != nil && o.GetCaseId() != "" {
		if !below.opening.GetVacant() && below.due != 0 && o.GetStartUs() != below.due {
			h.fail(n, "a limit counts from the due time below", "alert %.12s round %d level %d counts from %d, the level below was due at %d", key.alert, key.round, key.level, o.GetStartUs(), below.due)
		}
		if row, ok, _ := n.store.Get(ctx, below.writer.own, alertview.Level, key.alert, int64(key.round), int64(key.level)-1); ok {
			if at, late := row[handledColumn].(int64), row[lateColumn].(int64); at != 0 && late == 0 && !below.reopened {
				h.fail(n, "what was handled in time goes no further", "alert %.12s round %d level %d is opened, and level %d was handled at %d, due %d",
					key.alert, key.round, key.level, key.level-1, at, below.due)
			}
		}
	}
	h.sight.levels[key] = &level{writer: n, number: e.Number, recorded: e.RecordedAt, opening: o, due: o.GetDueUs()}
	if o.GetOnSilence() || o.GetNotOpenedBelow() {
		h.sight.silent++
		n.silence(e, o, below)
	}
	n.eyes.undo = append(n.eyes.undo, func() { delete(h.sight.levels, key) })
	n.receives(o)
}

// silence judges a level that was opened for want of word.
func (n *node) silence(e *journal.Entry, o *dubanv1.LevelOpened, below *level) {
	if e.RecordedAt < o.GetStartUs()+n.h.plan.grace.Microseconds() {
		n.h.fail(n, "silence is waited for", "alert %.12s level %d was opened on silence %d µs after it was due, the grace is %v",
			o.GetAlertId(), o.GetLevel(), e.RecordedAt-o.GetStartUs(), n.h.plan.grace)
	}
	child := n.h.by[jurisdiction.Code(o.GetBelow())]
	if below == nil || child == nil || child.parent != n || !child.up || n.h.plan.loss > 0 {
		return
	}
	if cut := n.h.net.cut; cut[line{n, child}]+cut[line{child, n}] > 0 {
		return
	}
	if n.astray() || child.astray() {
		return // a clock that was turned while its node was down is believed until the parent has been heard
	}
	// Who was up, in reach and believed since long before the level was due has sent a checkpoint since, and is no silent node.
	if calm := max(child.troubled, n.troubled); calm < o.GetStartUs()-n.h.plan.beat.Microseconds()-(24*time.Hour).Microseconds() {
		n.h.fail(n, "silence is not concluded of who speaks", "alert %.12s level %d was opened on the silence of %s, which was up and in reach since %s",
			o.GetAlertId(), o.GetLevel(), child.name, time.UnixMicro(calm).UTC().Format(time.RFC3339))
	}
}

// astray says whether a clock is off by more than clocks may be.
func (n *node) astray() bool {
	return n.skew > stray.Microseconds() || n.skew < -stray.Microseconds()
}

// slack is by how much clocks may differ where a time is another node's.
func (h *history) slack(o *dubanv1.LevelOpened) int64 {
	if o.GetRound() > 1 && o.GetLevel() == 1 {
		return h.plan.skew.Microseconds()*2 + 2_000_000
	}
	return 0
}

// about is what says of which level it is.
type about interface {
	proto.Message
	GetAlertId() string
	GetRound() uint32
	GetLevel() uint32
}

// known is the level that an entry of this node is about.
func (n *node) known(e *journal.Entry, m proto.Message, a about) *level {
	if !n.reads(e, m) {
		return nil
	}
	l := n.h.sight.levels[levelKey{a.GetAlertId(), a.GetRound(), a.GetLevel()}]
	if l == nil || l.writer != n {
		n.h.fail(n, "who receives a level writes of it", "entry %d is about a level of alert %.12s that this node did not open", e.Number, a.GetAlertId())
		return nil
	}
	return l
}

func (n *node) handles(e *journal.Entry, m *dubanv1.LevelHandled) {
	l := n.known(e, m, m)
	if l == nil {
		return
	}
	if l.handled != 0 {
		n.h.fail(n, "a level is handled once", "alert %.12s level %d was handled at %d and again", m.GetAlertId(), m.GetLevel(), l.handled)
	}
	before := *l
	l.handled, l.late = e.RecordedAt, m.GetLate() || !l.opening.GetLast() && l.due != 0 && e.RecordedAt >= l.due
	n.eyes.undo = append(n.eyes.undo, func() { *l = before })
	if !l.late {
		n.handled(l)
	}
}

func (n *node) withdraws(e *journal.Entry, m *dubanv1.LevelWithdrawn) {
	l := n.known(e, m, m)
	if l == nil {
		return
	}
	before := *l
	l.withdrawn = true
	n.eyes.undo = append(n.eyes.undo, func() { *l = before })
	if l.opening.GetCaseId() == "" {
		return // about a node, which speaks again
	}
	if m.GetBasis() == dubanv1.Basis_BASIS_WITNESSED {
		n.h.sight.witness++
	} else {
		n.h.sight.claimed++
	}
	id, err := journal.IDFrom(m.GetJournal())
	entries := n.disk.Entries(id)
	if m.GetNumber() >= uint64(len(entries)) {
		// Who takes back a level because the one below was taken back goes by what that node says it has; here it may
		// arrive later. What it says has to be true.
		if owner, ok := n.h.city.tree.Journal(id); ok {
			from := n.h.by[owner.Code]
			entries = from.disk.Entries(id)[:from.durable()]
		}
	}
	fail := func(format string, args ...any) {
		n.h.fail(n, "a level is withdrawn for what was in time", "alert %.12s level %d: "+format, append([]any{m.GetAlertId(), m.GetLevel()}, args...)...)
	}
	switch {
	case err != nil || m.GetNumber() >= uint64(len(entries)):
		fail("entry %d of journal %x is not here", m.GetNumber(), m.GetJournal())
		return
	case entries[m.GetNumber()].RecordedAt != m.GetRecordedUs():
		fail("entry %d was recorded at %d, not at %d", m.GetNumber(), entries[m.GetNumber()].RecordedAt, m.GetRecordedUs())
	case m.GetRecordedUs() >= l.opening.GetStartUs():
		fail("entry %d was recorded at %d, the limit ended at %d", m.GetNumber(), m.GetRecordedUs(), l.opening.GetStartUs())
	}
	if m.GetBasis() == dubanv1.Basis_BASIS_WITNESSED {
		if most := l.opening.GetStartUs() + n.h.plan.grace.Microseconds(); m.GetWitnessedUs() > most || m.GetCheckpointSize() <= m.GetNumber() {
			fail("witnessed at %d with size %d; entry %d, at most %d", m.GetWitnessedUs(), m.GetCheckpointSize(), m.GetNumber(), most)
		}
	}
}

// column is where a table has a column.
func column(t *store.Table, name string) int {
	for i, c := range t.Columns {
		if c.Name == name {
			return i
		}
	}
	panic(fmt.Sprintf("sim: table %s has no column %s", t.Name, name))
}

var handledColumn, lateColumn = column(alertview.Level, "handled_us"), column(alertview.Level, "late")
