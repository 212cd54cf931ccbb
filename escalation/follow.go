package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// maxChanges bounds the rows of one command.
const maxChanges = 512

// Follow turns a run of one journal's entries, which must be folded, into commands that together move the cursor from
// the first entry to behind the last; or, where a calendar is adopted, behind an earlier one. They are to be appended in
// order; once one conflicts the rest do too, and the run is to be followed again from the cursor, carefully.
func (c *Core) Follow(ctx context.Context, id journal.ID, entries []journal.Entry, careful bool) ([]store.Command, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	b := c.batch(careful)
	if entries[0].Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED) {
		return b.adopted(ctx, id, &entries[0])
	}
	var (
		commands []store.Command
		j        judgement
		judged   bool
		from     = entries[0].Number
	)
	cut := func(to uint64) {
		b.cmd.Cursors = []store.Advance{{Follower: Follower, Journal: id, From: from, To: to}}
		commands, from = append(commands, b.take()), to
	}
	for i := range entries {
		e := &entries[i]
		kind := dubanv1.EntryKind(e.Kind)
		if kind == dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED {
			break // limits are recounted over what is committed
		}
		if kind == dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED {
			judged = false
		}
		if c.wants(id, kind) && !e.Erased {
			if !judged {
				// Levels are judged by what this node adopted, cases by what their journal, which is the same here.
				number := e.Number
				if id != c.own {
					info, err := c.ownInfo()
					if err != nil {
						return nil, err
					}
					number = info.Size
				}
				var err error
				if j, err = c.judged(ctx, c.own, number); err != nil {
					return nil, err
				}
				judged = true
			}
			if err := b.follow(ctx, j, id, e, kind); err != nil {
				return nil, fmt.Errorf("journal %s entry %d: %w", id, e.Number, err)
			}
		}
		if len(b.cmd.Entries) > 0 || len(b.cmd.Changes) >= maxChanges {
			cut(e.Number + 1)
		}
		if i == len(entries)-1 || entries[i+1].Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED) {
			if from <= e.Number {
				cut(e.Number + 1)
			}
		}
	}
	return commands, nil
}

func (c *Core) ownInfo() (store.Info, error) {
	for _, info := range c.state.Journals() {
		if info.Own {
			return info, nil
		}
	}
	return store.Info{}, fault.New(fault.Internal, "the store has no journal of its own")
}

// wants says whether an entry can bring anything about. The rules are run over the own journal only.
func (c *Core) wants(id journal.ID, kind dubanv1.EntryKind) bool {
	switch kind {
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED, dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED:
		return true
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED:
		return id == c.own
	}
	return id == c.own && caseEvent(kind) != nil
}

// caseEvent is an empty payload of an entry about a case; nil for other kinds.
func caseEvent(kind dubanv1.EntryKind) caseMessage {
	switch kind {
	case dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED:
		return new(dubanv1.CaseOpened)
	case dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED:
		return new(dubanv1.StageRecorded)
	case dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED:
		return new(dubanv1.EvidenceAttached)
	case dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN:
		return new(dubanv1.ExplanationGiven)
	case dubanv1.EntryKind_ENTRY_KIND_CORRECTION_REQUESTED:
		return new(dubanv1.CorrectionRequested)
	case dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED:
		return new(dubanv1.CorrectionDecided)
	}
	return nil
}

type caseMessage interface {
	proto.Message
	GetCaseId() string
}

func (b *batch) follow(ctx context.Context, j judgement, id journal.ID, e *journal.Entry, kind dubanv1.EntryKind) error {
	var m proto.Message
	var next func() error
	switch kind {
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED:
		o := new(dubanv1.LevelOpened)
		m, next = o, func() error { return b.plant(ctx, j, id, e, o) }
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED:
		h := new(dubanv1.LevelHandled)
		m, next = h, func() error { return b.handled(ctx, id, e, h) }
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED:
		d := new(dubanv1.LevelDisputed)
		m, next = d, func() error { return b.disputed(ctx, j, e, d) }
	default:
		event := caseEvent(kind)
		m, next = event, func() error { return b.caseEntry(ctx, j, e, event) }
	}
	if err := proto.Unmarshal(e.Payload, m); err != nil {
		// One bad record holds nothing up; its fold shows it as well.
		b.log.Error("entry left out: payload can't be read", slog.Uint64("number", e.Number), slog.String("journal", id.String()), slog.Any("error", err))
		return nil
	}
	return next()
}

// plant keeps the deadline of a level whose next level this node's office receives.
func (b *batch) plant(ctx context.Context, j judgement, id journal.ID, e *journal.Entry, o *dubanv1.LevelOpened) error {
	if o.GetLast() || id == b.own && alert.PassedAtOnce(o) {
		return nil // a vacant level and the one after it were opened together
	}
	var failed error
	if !b.site(ctx, j, id, &failed).Receives(o) {
		return failed
	}
	d := Due{
		Owner: id, At: orNever(o.GetDueUs()), Alert: o.GetAlertId(), Round: int64(o.GetRound()), Level: int64(o.GetLevel()),
		Kind: kindLevel, Opening: e.Payload,
	}
	if id == b.own {
		// At the version that is kept the next level must not exist, for that version is all that opening it will look at.
		var err error
		if d.Version, err = b.state.Version(ctx, alert.Stream(d.Alert)); err != nil {
			return fmt.Errorf("version of alert %s: %w", d.Alert, err)
		}
		_, there, err := b.state.Get(ctx, b.own, alertview.Level, d.Alert, d.Round, d.Level+1)
		if err != nil || there {
			return err
		}
	}
	b.change(d.put())
	return failed
}

// handled drops the deadline of a level that was handled in time: recorded before it was due, by its journal's clock.
func (b *batch) handled(ctx context.Context, id journal.ID, e *journal.Entry, h *dubanv1.LevelHandled) error {
	row, there, err := b.state.Get(ctx, id, alertview.Level, h.GetAlertId(), int64(h.GetRound()), int64(h.GetLevel()))
	if err != nil || !there {
		return err
	}
	due, last := alertview.DueAt(row), alertview.Last(row)
	if alert.HandledLate(h.GetLate(), last, due, e.RecordedAt) {
		return nil
	}
	b.change(Due{Owner: id, At: orNever(due), Alert: h.GetAlertId(), Round: int64(h.GetRound()), Level: int64(h.GetLevel()), Kind: kindLevel}.drop())
	return nil
}

// disputed starts the next round: here, where the case is of this node; otherwise this node waits for the round's levels
// from below, and opens its own level when they bring nothing in time.
func (b *batch) disputed(ctx context.Context, j judgement, e *journal.Entry, d *dubanv1.LevelDisputed) error {
	a, err := b.load(ctx, d.GetAlertId())
	if err != nil {
		return err
	}
	if a == nil {
		b.log.Error("dispute of an unknown alert", slog.Uint64("number", e.Number), slog.String("alert", d.GetAlertId()))
		return nil
	}
	first, below := &a.Levels[0], &a.Levels[0]
	for i := range a.Levels {
		if l := &a.Levels[i]; l.Round() == d.GetRound() && l.Step() == d.GetLevel() {
			below = l
		}
	}
	o := proto.CloneOf(first.Opening)
	o.Round, o.Level, o.Role, o.Vacant, o.Last = d.GetRound()+1, 0, "", false, false
	caseJournal, err := journal.IDFrom(o.GetJournal())
	if err != nil {
		return err
	}
	var failed error
	site := b.site(ctx, j, caseJournal, &failed)
	start := e.RecordedAt
	if caseJournal == b.own {
		if err := b.open(ctx, site.Next(o, start), 0, 0); err != nil {
			return err
		}
		return failed
	}
	for !site.Receives(o) {
		r, ok := site.Rung(o.GetTier(), o.GetLevel()+1, start)
		if !ok {
			return failed
		}
		o.Level, o.Role, o.Limit, o.StartUs, o.DueUs, o.OpenEndedYear = o.GetLevel()+1, r.Role, r.Limit, start, r.DueAt, r.OpenEndedYear
		if start = r.DueAt; start == 0 {
			break
		}
	}
	opening, err := proto.Marshal(o)
	if err != nil {
		return err
	}
	b.change(Due{
		Owner: below.Journal, At: orNever(start), Alert: a.ID, Round: int64(o.GetRound()), Level: int64(o.GetLevel()), Kind: kindDerived, Opening: opening,
	}.put())
	return failed
}

func (b *batch) load(ctx context.Context, id string) (*alert.Alert, error) {
	names := make(map[int64]journal.ID)
	for _, info := range b.state.Journals() {
		names[info.Ordinal] = info.ID
	}
	var found []*alert.Alert
	err := b.state.View(ctx, func(q store.Queryer) (err error) {
		found, err = alertview.Load(ctx, q, func(ordinal int64) journal.ID { return names[ordinal] }, id)
		return err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}
