package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/journal"
	"duban.internal/node/planted"
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
		from     = entries[0].Number
	)
	cut := func(to uint64) {
		b.cmd.Cursors = []store.Advance{{Follower: Follower, Journal: id, From: from, To: to}}
		if planted.On("runner.cursor-apart") {
			b.cmd.Cursors = nil
		}
		commands, from = append(commands, b.take()), to
	}
	for i := range entries {
		e := &entries[i]
		kind := dubanv1.EntryKind(e.Kind)
		if kind == dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED {
			break // limits are recounted over what is committed
		}
		if kind == dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED {
			b.levels, b.rules = nil, nil
		}
		if !e.Erased {
			if err := b.follow(ctx, id, e, kind); err != nil {
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

func (b *batch) follow(ctx context.Context, id journal.ID, e *journal.Entry, kind dubanv1.EntryKind) error {
	var m proto.Message
	var next func() error
	switch kind {
	case dubanv1.EntryKind_ENTRY_KIND_JURISDICTION_NAMED:
		delete(b.homes, id)
		return nil
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED:
		o := new(dubanv1.LevelOpened)
		m, next = o, func() error { return b.opened(ctx, id, e, o) }
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED:
		h := new(dubanv1.LevelHandled)
		m, next = h, func() error { return b.handled(ctx, id, e, h) }
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN:
		w := new(dubanv1.LevelWithdrawn)
		m, next = w, func() error { return b.withdrawn(ctx, id, w) }
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED:
		r := new(dubanv1.LevelReopened)
		m, next = r, func() error { return b.reopened(ctx, id, e, r) }
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED:
		d := new(dubanv1.LevelDisputed)
		m, next = d, func() error { return b.disputed(ctx, id, e, d) }
	case dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED, dubanv1.EntryKind_ENTRY_KIND_JOURNAL_READMITTED:
		if id != b.own {
			return nil // it is the business of who refused it
		}
		if kind == dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED {
			p := new(dubanv1.PeerRefused)
			m, next = p, func() error { return b.peerRefused(ctx, e, p) }
		} else {
			p := new(dubanv1.JournalReadmitted)
			m, next = p, func() error { return b.readmitted(ctx, e, p) }
		}
	case dubanv1.EntryKind_ENTRY_KIND_RECEIVED_FROM_ABOVE:
		if id != b.own {
			return nil // only its own node verified it
		}
		return b.fromAbove(ctx, e)
	default:
		event := caseEvent(kind)
		if event == nil {
			return nil
		}
		r, err := b.judgesCases(ctx, id, e)
		if err != nil || !r.run {
			return err
		}
		m, next = event, func() error { return b.caseEntry(ctx, r, id, e, event) }
	}
	if err := proto.Unmarshal(e.Payload, m); err != nil {
		b.unreadable(id, e, err)
		return nil
	}
	return next()
}

// unreadable tells of an entry that is left out. One bad record holds nothing up; its fold shows it as well.
func (b *batch) unreadable(id journal.ID, e *journal.Entry, err error) {
	b.log.Error("entry left out: payload can't be read", slog.Uint64("number", e.Number), slog.String("journal", id.String()), slog.Any("error", err))
}
