package escalation

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/rule"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/profile"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// judgement is what an entry is judged by.
type judgement struct {
	set      *rule.Set
	profile  *profile.Profile
	calendar *workday.Calendar
}

// Sets are profiles' rules, compiled, by the profile's address; a profile that can't be is remembered with its error. Nodes
// of one process may share them. They are safe for concurrent use.
type Sets struct {
	mu  sync.Mutex
	all map[[32]byte]compiled
}

// NewSets makes empty ones.
func NewSets() *Sets { return &Sets{all: make(map[[32]byte]compiled)} }

type compiled struct {
	set *rule.Set
	err error
}

func (s *Sets) of(p *profile.Profile) (*rule.Set, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, known := s.all[p.Hash()]
	if !known {
		if c.set, c.err = rule.Compile(p); c.err != nil {
			c.err = &fault.Error{Kind: fault.Unsupported, Err: c.err, Msg: fmt.Sprintf("profile %s can't be compiled: %v", p.Name, c.err)}
		}
		s.all[p.Hash()] = c
	}
	return c.set, c.err
}

func (c *Core) judged(ctx context.Context, id journal.ID, number uint64) (judgement, error) {
	p, cal, err := c.registry.Judged(ctx, id, number)
	if err != nil {
		return judgement{}, fmt.Errorf("what judges entry %d of journal %s: %w", number, id, err)
	}
	set, err := c.sets.of(p)
	if err != nil {
		return judgement{}, fmt.Errorf("journal %s: %w", id, err)
	}
	return judgement{set: set, profile: p, calendar: cal}, nil
}

// judgesLevels is what this node adopted: as of an own entry, or now.
func (b *batch) judgesLevels(ctx context.Context, id journal.ID, e *journal.Entry) (judgement, error) {
	if b.levels != nil {
		return *b.levels, nil
	}
	info, ok := b.state.Journal(b.own)
	if !ok {
		return judgement{}, fault.New(fault.Internal, "the store has no journal of its own")
	}
	number := info.Size
	if id == b.own && e != nil {
		number = e.Number
	}
	j, err := b.judged(ctx, b.own, number)
	if err == nil {
		b.levels = &j
	}
	return j, err
}

// ruled is what judges the cases of a journal.
type ruled struct {
	judgement
	home home
	run  bool // the rules are run here: it is the own journal, or this node watches it
}

// judgesCases is what a journal had adopted by one of its entries, cases from below being judged where this node watches
// them. What a child adopted and can't be read here stops nothing but its rules.
func (b *batch) judgesCases(ctx context.Context, id journal.ID, e *journal.Entry) (ruled, error) {
	if b.rules != nil {
		return *b.rules, nil
	}
	r, err := b.askCases(ctx, id, e)
	if err == nil {
		b.rules = &r
	}
	return r, err
}

func (b *batch) askCases(ctx context.Context, id journal.ID, e *journal.Entry) (r ruled, err error) {
	if id == b.own {
		r.home, r.run = b.home, true
		r.judgement, err = b.judgesLevels(ctx, id, e)
		return r, err
	}
	var known bool
	if r.home, known, err = b.homeOf(ctx, id); err != nil || !known {
		return r, err
	}
	if r.judgement, err = b.judged(ctx, id, e.Number); err != nil {
		if fault.Is(err, fault.Precondition) || fault.Is(err, fault.Unsupported) {
			b.log.Error("the rules of a node below can't be run", slog.String("code", r.home.code), slog.Any("error", err))
			return r, nil
		}
		return r, err
	}
	var failed error
	site := b.site(ctx, r.judgement, id, "", &failed)
	r.run = site.Watches(&dubanv1.LevelOpened{Receiver: r.home.code, Tier: r.home.tier})
	return r, failed
}

// site is this node for opening levels of a point's alerts. What fails while it answers is left in *failed.
func (b *batch) site(ctx context.Context, j judgement, caseJournal journal.ID, point string, failed *error) alert.Site {
	p, cal := j.profile.Hash(), j.calendar.Hash()
	return alert.Site{
		Code: b.home.code,
		Rung: func(tier string, level uint32, start int64) (alert.Rung, bool) {
			return rung(j, point, tier, level, start)
		},
		Receiver: alert.In(b.tree),
		Vacant: func(r alert.Rung, agency string) bool {
			vacant, err := b.isVacant(ctx, r, caseJournal, agency)
			if err != nil {
				*failed = err
			}
			return vacant
		},
		Profile: p[:], Calendar: cal[:],
	}
}

func rung(j judgement, point, tier string, level uint32, start int64) (alert.Rung, bool) {
	o, ok := j.set.LevelDue(j.calendar, point, tier, int(level), start)
	if !ok {
		return alert.Rung{}, false
	}
	r := alert.Rung{Role: o.Level.Role, At: o.Level.At, Limit: o.Level.Limit.String(), Last: o.Last}
	if role := j.profile.Role(r.Role); role != nil {
		r.OfAgency = role.Of == alert.OfAgency
	}
	r.DueAt, r.OpenEndedYear = due(o.Due)
	return r, true
}

// due is a deadline as entries state it.
func due(d workday.Deadline) (at int64, openEndedYear uint32) {
	if d.Open {
		return 0, uint32(d.MissingYear)
	}
	return d.At.UnixMicro(), 0
}

func orNever(due int64) int64 {
	if due == 0 {
		return never
	}
	return due
}

func (b *batch) isVacant(ctx context.Context, r alert.Rung, caseJournal journal.ID, agency string) (bool, error) {
	key := office{role: r.Role}
	if r.OfAgency {
		key.agency, key.journal = agency, caseJournal
	}
	if v, known := b.vacant[key]; known {
		return v, nil
	}
	var vacant bool
	if r.OfAgency {
		a, ok, err := b.registry.Agency(ctx, caseJournal, agency)
		if err != nil {
			return false, fmt.Errorf("agency %s: %w", agency, err)
		}
		vacant = !ok || a.GetLegalUnitVacant()
	} else {
		o, ok, err := b.registry.Office(ctx, r.Role, b.home.code)
		if err != nil {
			return false, fmt.Errorf("office %s of %s: %w", r.Role, b.home.code, err)
		}
		vacant = !ok || o.GetVacant()
	}
	b.vacant[key] = vacant
	return vacant, nil
}
