package letters

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Follower is the name of the Addresser's cursor.
const Follower = "letters"

// Bounds of one letter. An entry that fits in none is not addressed, and said so in the log.
const (
	letterBytes   = 1 << 20
	letterEntries = 1024
	proofBytes    = 62 * 34 // at most, of one entry
	maxEntry      = journal.MaxPayload - 128<<10
)

// Addresser decides what of the own journal concerns whom below: the stepped core. It keeps nothing between calls.
type Addresser struct {
	cfg Config
}

// NewAddresser makes one. Kind of errors: fault.Invalid.
func NewAddresser(cfg Config) (*Addresser, error) {
	cfg, err := cfg.prepared()
	if err != nil {
		return nil, err
	}
	return &Addresser{cfg: cfg}, nil
}

// run is the addressing of one run of entries.
type run struct {
	*Addresser
	alerts map[string]journal.ID // put in this run
	order  []jurisdiction.Code
	groups map[jurisdiction.Code][]named
	out    store.Command
}

// named is an entry that is to be addressed.
type named struct {
	number uint64
	bytes  int
}

// Follow addresses a run of entries of the own journal. The command has neither entries nor changes where nothing concerns
// anybody; the caller adds the advance of the cursor.
func (a *Addresser) Follow(ctx context.Context, entries []journal.Entry) (store.Command, error) {
	r := run{Addresser: a, alerts: map[string]journal.ID{}, groups: map[jurisdiction.Code][]named{}}
	for i := range entries {
		e := &entries[i]
		if e.Erased {
			continue
		}
		to, err := r.concerned(ctx, e)
		switch {
		case fault.Is(err, fault.Corrupt): // one bad record holds up no other
			a.cfg.Log.Error("an entry can't be read and is told to nobody", slog.Uint64("entry", e.Number), slog.Any("error", err))
			continue
		case err != nil:
			return store.Command{}, fmt.Errorf("entry %d: %w", e.Number, err)
		}
		bytes := len(e.Raw) + len(e.Payload) + federation.EntryOverhead + proofBytes
		if len(to) > 0 && bytes > maxEntry {
			a.cfg.Log.Error("an entry is too large to be told below", slog.Uint64("entry", e.Number), slog.Int("bytes", bytes), slog.Int("most", maxEntry))
			continue
		}
		for _, code := range to {
			if r.groups[code] == nil {
				r.order = append(r.order, code)
			}
			r.groups[code] = append(r.groups[code], named{e.Number, bytes})
		}
	}
	for _, code := range r.order {
		if err := r.number(ctx, code); err != nil {
			return store.Command{}, err
		}
	}
	return r.out, nil
}

// concerned lists whom an entry is addressed to.
func (r *run) concerned(ctx context.Context, e *journal.Entry) ([]jurisdiction.Code, error) {
	switch dubanv1.EntryKind(e.Kind) {
	case dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED, dubanv1.EntryKind_ENTRY_KIND_CALENDAR_ADOPTED:
		var out []jurisdiction.Code
		for _, n := range r.cfg.Tree.Children(r.cfg.Code) {
			out = append(out, n.Code)
		}
		return out, nil
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED:
		var m dubanv1.LevelOpened
		if err := proto.Unmarshal(e.Payload, &m); err != nil {
			return nil, fault.New(fault.Corrupt, "%w", err)
		}
		id, err := journal.IDFrom(m.GetJournal())
		if err != nil {
			return nil, fault.New(fault.Corrupt, "%w", err)
		}
		to := r.passed(id, m.GetLevel(), false)
		if len(to) > 0 && r.alerts[m.GetAlertId()].IsZero() {
			r.alerts[m.GetAlertId()] = id
			r.out.Changes = append(r.out.Changes, store.Change{Table: Alert, Owner: r.cfg.Store.Own(), Row: store.Row{m.GetAlertId(), id[:]}})
		}
		return to, nil
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_HANDLED:
		return r.about(ctx, e, new(dubanv1.LevelHandled))
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_DISPUTED:
		return r.about(ctx, e, new(dubanv1.LevelDisputed))
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN:
		return r.about(ctx, e, new(dubanv1.LevelWithdrawn))
	case dubanv1.EntryKind_ENTRY_KIND_LEVEL_REOPENED:
		return r.about(ctx, e, new(dubanv1.LevelReopened))
	}
	return nil, nil
}

// aboutLevel is what the messages about a level that is open have in common.
type aboutLevel interface {
	proto.Message
	GetAlertId() string
	GetLevel() uint32
}

func (r *run) about(ctx context.Context, e *journal.Entry, m aboutLevel) ([]jurisdiction.Code, error) {
	if err := proto.Unmarshal(e.Payload, m); err != nil {
		return nil, fault.New(fault.Corrupt, "%w", err)
	}
	id, ok := r.alerts[m.GetAlertId()]
	if !ok {
		row, there, err := r.cfg.Store.Get(ctx, r.cfg.Store.Own(), Alert, m.GetAlertId())
		if err != nil {
			return nil, err
		}
		if there {
			id, ok = journal.ID(row[1].([]byte)), true
		}
	}
	_, dispute := m.(*dubanv1.LevelDisputed)
	if !ok && dispute && r.cfg.Case != nil {
		var err error
		if id, ok, err = r.cfg.Case(ctx, m.GetAlertId()); err != nil {
			return nil, err
		}
		if ok && len(r.passed(id, 1, true)) > 0 {
			// What comes of the new round is told as well.
			r.alerts[m.GetAlertId()] = id
			r.out.Changes = append(r.out.Changes, store.Change{Table: Alert, Owner: r.cfg.Store.Own(), Row: store.Row{m.GetAlertId(), id[:]}})
		}
	}
	if !ok {
		return nil, nil
	}
	return r.passed(id, m.GetLevel(), dispute), nil
}

// passed lists the node of a case below and those between it and this one that a level has passed: the n-th from below
// receives level n at the earliest. Of a dispute the one whose handling is disputed is told as well.
func (r *run) passed(id journal.ID, level uint32, dispute bool) []jurisdiction.Code {
	n, ok := r.cfg.Tree.Journal(id)
	if !ok || !r.cfg.below(n.Code, r.cfg.Code) {
		return nil
	}
	reach := int(level)
	if !dispute {
		reach--
	}
	path := r.cfg.path(n.Code)
	return path[:min(max(1, reach), len(path))]
}

// number makes the Addressed entries of one addressee.
func (r *run) number(ctx context.Context, code jurisdiction.Code) error {
	next, through := uint64(0), int64(-1)
	row, ok, err := r.cfg.Store.Get(ctx, r.cfg.Store.Own(), Next, string(code))
	if err != nil {
		return err
	}
	if ok {
		next, through = uint64(row[1].(int64)), row[2].(int64)
	}
	m, bytes := &dubanv1.Addressed{Addressee: string(code), Number: next}, 0
	flush := func() error {
		if len(m.Entries) == 0 {
			return nil
		}
		payload, err := proto.Marshal(m)
		if err != nil {
			return err
		}
		r.out.Entries = append(r.out.Entries, store.Proposal{Stream: "letters/" + string(code), Kind: kindAddressed,
			Actor: "node:" + string(r.cfg.Code), Payload: payload})
		next += uint64(len(m.Entries))
		m, bytes = &dubanv1.Addressed{Addressee: string(code), Number: next}, 0
		return nil
	}
	for _, e := range r.groups[code] {
		if int64(e.number) <= through {
			continue // numbered already: the cursor was lost, not the journal
		}
		if len(m.Entries) == letterEntries || bytes+e.bytes > letterBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		m.Entries, bytes = append(m.Entries, e.number), bytes+e.bytes
	}
	return flush()
}
