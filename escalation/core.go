package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/escalation/rule"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// State is what Core reads of a store.
type State interface {
	Own() journal.ID
	Version(ctx context.Context, stream string) (uint64, error)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	View(ctx context.Context, fn func(q store.Queryer) error) error
	Journals() []store.Info
}

// Core decides what the runner writes. It is for one goroutine at a time.
type Core struct {
	state    State
	registry Registry
	cases    Cases
	tree     *jurisdiction.Tree
	own      journal.ID
	code     string
	tier     string
	actor    string
	log      *slog.Logger

	sets     map[[32]byte]*rule.Set // by the profile's address
	openings openings
}

// NewCore makes a Core over a state. Of the configuration it uses Registry, Cases, Tree, Code and Log.
func NewCore(s State, c Config) *Core {
	d, _ := c.Tree.Get(c.Code)
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Core{
		state: s, registry: c.Registry, cases: c.Cases, tree: c.Tree,
		own: s.Own(), code: string(c.Code), tier: string(d.Tier), actor: "node:" + string(c.Code), log: log,
		sets: make(map[[32]byte]*rule.Set),
	}
}

// judgement is what an entry is judged by.
type judgement struct {
	set      *rule.Set
	profile  *profile.Profile
	calendar *workday.Calendar
}

func (c *Core) judged(ctx context.Context, id journal.ID, number uint64) (judgement, error) {
	p, cal, err := c.registry.Judged(ctx, id, number)
	if err != nil {
		return judgement{}, fmt.Errorf("what judges entry %d of journal %s: %w", number, id, err)
	}
	set := c.sets[p.Hash()]
	if set == nil {
		if set, err = rule.Compile(p); err != nil {
			return judgement{}, fmt.Errorf("compile profile %s of journal %s: %w", p.Name, id, err)
		}
		c.sets[p.Hash()] = set
	}
	return judgement{set: set, profile: p, calendar: cal}, nil
}

// batch is one call's work: what it decided so far counts as done for what follows.
type batch struct {
	*Core
	careful  bool // look before opening; else rely on the version that is expected
	versions map[string]uint64
	running  map[[2]string]*running // by case and point; nil for ended
	vacant   map[[2]string]bool     // by role and agency
	cmd      store.Command
}

func (c *Core) batch(careful bool) *batch {
	return &batch{
		Core: c, careful: careful,
		versions: make(map[string]uint64), running: make(map[[2]string]*running), vacant: make(map[[2]string]bool),
	}
}

// site is this node for opening levels. What fails while it answers is left in *failed.
func (b *batch) site(ctx context.Context, j judgement, caseJournal journal.ID, failed *error) alert.Site {
	p, cal := j.profile.Hash(), j.calendar.Hash()
	return alert.Site{
		Code: b.code,
		Rung: func(tier string, level uint32, start int64) (alert.Rung, bool) {
			return rung(j, tier, level, start)
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

func rung(j judgement, tier string, level uint32, start int64) (alert.Rung, bool) {
	o, ok := j.set.LevelDue(j.calendar, tier, int(level), start)
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
	key := [2]string{r.Role, ""}
	if r.OfAgency {
		key[1] = agency
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
		o, ok, err := b.registry.Office(ctx, r.Role, b.code)
		if err != nil {
			return false, fmt.Errorf("office %s of %s: %w", r.Role, b.code, err)
		}
		vacant = !ok || o.GetVacant()
	}
	b.vacant[key] = vacant
	return vacant, nil
}

// open adds openings of one alert to the command. guess is the version that its stream should have.
func (b *batch) open(ctx context.Context, openings []*dubanv1.LevelOpened, guess uint64, at int64) error {
	if len(openings) == 0 {
		return nil
	}
	first := openings[0]
	stream := alert.Stream(first.GetAlertId())
	version, err := b.version(ctx, stream, guess)
	if err != nil {
		return err
	}
	if b.careful {
		// After the version: an opening in between makes the command fail rather than exist twice.
		_, there, err := b.state.Get(ctx, b.own, alertview.Level, first.GetAlertId(), int64(first.GetRound()), int64(first.GetLevel()))
		if err != nil {
			return fmt.Errorf("alert %s: %w", first.GetAlertId(), err)
		}
		if there {
			return nil
		}
	}
	b.expect(stream, version)
	for _, o := range openings {
		if err := b.entry(stream, dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED, at, o); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) version(ctx context.Context, stream string, guess uint64) (uint64, error) {
	if v, known := b.versions[stream]; known {
		return v, nil
	}
	if !b.careful {
		return guess, nil
	}
	v, err := b.state.Version(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("version of %s: %w", stream, err)
	}
	return v, nil
}

func (b *batch) expect(stream string, version uint64) {
	b.cmd.Expect = append(b.cmd.Expect, store.Expect{Stream: stream, Version: version})
	b.versions[stream] = version
}

func (b *batch) entry(stream string, kind dubanv1.EntryKind, at int64, m proto.Message) error {
	payload, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s: %w", stream, err)
	}
	b.cmd.Entries = append(b.cmd.Entries, store.Proposal{
		Stream: stream, Kind: uint32(kind), OccurredAt: at, Actor: b.actor, Payload: payload,
	})
	b.versions[stream]++
	return nil
}

func (b *batch) change(c ...store.Change) { b.cmd.Changes = append(b.cmd.Changes, c...) }

// take gives the command decided so far and begins another.
func (b *batch) take() store.Command {
	cmd := b.cmd
	b.cmd = store.Command{}
	return cmd
}
