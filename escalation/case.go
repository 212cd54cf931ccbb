package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/rule"
	"duban.internal/node/journal"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// caseEntry applies the rules of a journal to its entry about a case. From below, what they start here are derived
// deadlines alone: it is the child's to open level 1, and to show cards.
func (b *batch) caseEntry(ctx context.Context, r ruled, id journal.ID, e *journal.Entry, m caseMessage) error {
	c, err := b.caseOf(ctx, r, id, m)
	if err != nil {
		return err
	}
	if c == nil || c.Imported { // imported history opens no live levels
		return nil
	}
	out, err := r.set.Step(r.calendar, *c, rule.Event{Number: e.Number, OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt, Payload: m})
	if err != nil {
		b.log.Error("conditions of alert points failed", slog.Uint64("number", e.Number), slog.String("case", c.ID), slog.Any("error", err))
	}
	for _, point := range out.Ends {
		if err := b.end(ctx, id, e, c.ID, point); err != nil {
			return err
		}
	}
	for _, s := range out.Starts {
		if err := b.start(ctx, r, c, s, e.RecordedAt); err != nil {
			return err
		}
	}
	for _, f := range out.Firings {
		zero := levelZero(r.home, c, f.Point, f.Trigger, f.Text)
		if id != b.own {
			if _, err := b.watch(ctx, r.judgement, id, zero, f.At); err != nil {
				return err
			}
			continue
		}
		var failed error
		site := b.site(ctx, r.judgement, b.own, f.Point.Name, &failed)
		if err := b.open(ctx, site.Next(zero, f.At), 0, 0); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// watch keeps the deadline of the level below this node's, of a limit that ends at start; none where this node receives none.
func (b *batch) watch(ctx context.Context, j judgement, id journal.ID, zero *dubanv1.LevelOpened, start int64) (d Due, err error) {
	var failed error
	below, ok := b.site(ctx, j, id, zero.GetPoint(), &failed).Derive(zero, start)
	if failed != nil || !ok {
		return d, failed
	}
	if d, err = derived(id, below); err == nil {
		b.change(d.put())
	}
	return d, err
}

// caseOf is what is fixed about the case of an entry; nil where it is not known.
func (b *batch) caseOf(ctx context.Context, r ruled, id journal.ID, m caseMessage) (*rule.Case, error) {
	key := caseKey{id, m.GetCaseId()}
	o, isOpening := m.(*dubanv1.CaseOpened)
	if !isOpening {
		o = b.openings.get(key)
	}
	if o == nil {
		var err error
		if o, err = b.cases.Opening(ctx, id, key.id); err != nil {
			return nil, fmt.Errorf("case %s: %w", key.id, err)
		}
		if o == nil {
			return nil, nil
		}
	}
	b.openings.put(key, o)
	c := &rule.Case{
		Journal: id, ID: key.id, Procedure: o.GetProcedure(), Item: o.GetItem(), Agency: o.GetAgency(), Tier: r.home.tier,
		Generated: o.GetGenerated(), Imported: o.GetImported(), Fields: o.GetFields(), Source: o.GetSource(),
	}
	if p := r.profile.Procedure(c.Procedure); p != nil {
		c.Act = p.Act
	}
	return c, nil
}

// caseKey names a case.
type caseKey struct {
	journal journal.ID
	id      string
}

// openings remembers openings of cases, which never change, in two generations.
type openings struct {
	young, old map[caseKey]*dubanv1.CaseOpened
}

const generation = 8192 // cases

func (o *openings) get(id caseKey) *dubanv1.CaseOpened {
	if m := o.young[id]; m != nil {
		return m
	}
	return o.old[id]
}

func (o *openings) put(id caseKey, m *dubanv1.CaseOpened) {
	if len(o.young) >= generation || o.young == nil {
		o.old, o.young = o.young, make(map[caseKey]*dubanv1.CaseOpened, generation)
	}
	o.young[id] = m
}

// levelZero is what level 1 of an alert copies.
func levelZero(h home, c *rule.Case, p *profile.Point, trigger uint64, text string) *dubanv1.LevelOpened {
	return &dubanv1.LevelOpened{
		AlertId: alert.ID(c.Journal, c.ID, p.Name, trigger), Round: 1,
		Point: p.Name, Article: p.Article, Grade: p.Grade, Journal: c.Journal[:], CaseId: c.ID, Agency: c.Agency, Trigger: trigger,
		Receiver: h.code, Tier: c.Tier, Text: text, Generated: c.Generated,
	}
}

// start keeps a limit that began. Where one of the same point runs already, which ends sooner, that one stays alone.
func (b *batch) start(ctx context.Context, r ruled, c *rule.Case, s rule.Start, recordedAt int64) error {
	was, err := b.runningLimit(ctx, c.Journal, c.ID, s.Point.Name)
	if err != nil {
		return err
	}
	if was != nil && was.due > recordedAt && was.trigger != s.Trigger {
		return nil
	}
	o := levelZero(r.home, c, s.Point, s.Trigger, s.Text)
	o.StartUs, o.Limit = s.StartAt, s.Point.Limit.String()
	o.DueUs, o.OpenEndedYear = due(s.Due)
	l := running{
		caseID: c.ID, point: s.Point.Name, trigger: s.Trigger, start: s.StartAt, due: orNever(o.DueUs), limitText: o.Limit,
	}
	if c.Journal != b.own {
		d, err := b.watch(ctx, r.judgement, c.Journal, o, o.DueUs)
		if err != nil || d.Alert == "" {
			return err
		}
		l.derived, l.derivedLevel = d.At, d.Level
		b.keep(c.Journal, l)
		return nil
	}
	if !s.Point.Warn.IsZero() {
		l.warnText = s.Point.Warn.String()
	}
	if o.DueUs != 0 {
		l.warn = s.WarnAt
	}
	b.keep(b.own, l)
	return b.plantLimit(l, o)
}

// plantLimit puts the deadlines of a limit and of its card.
func (b *batch) plantLimit(r running, o *dubanv1.LevelOpened) error {
	opening, err := proto.Marshal(o)
	if err != nil {
		return err
	}
	d := Due{Owner: b.own, At: r.due, Alert: o.GetAlertId(), Round: 1, Kind: kindLevel, Opening: opening}
	if r.warn != 0 && r.warn < r.due {
		card := d
		card.At, card.Kind = r.warn, kindCard
		b.change(card.put())
	}
	b.change(d.put())
	return nil
}

// end drops a running limit. One that an event ended after its due time has fired, or is about to. From below, what was
// opened because it seemed to run on is withdrawn.
func (b *batch) end(ctx context.Context, id journal.ID, e *journal.Entry, caseID, point string) error {
	r, err := b.runningLimit(ctx, id, caseID, point)
	if err != nil || r == nil {
		return err
	}
	alertID := alert.ID(id, caseID, point, r.trigger)
	b.running[[2]string{caseID, point}] = nil
	b.change(store.Change{Table: limitsOf(id == b.own), Owner: id, Row: store.Row{caseID, point}, Delete: true})
	if r.warn != 0 {
		b.change(Due{Owner: id, At: r.warn, Alert: alertID, Round: 1, Kind: kindCard}.drop())
	}
	if e.RecordedAt >= r.due {
		return nil
	}
	if id == b.own {
		b.change(Due{Owner: id, At: r.due, Alert: alertID, Round: 1, Kind: kindLevel}.drop())
		return nil
	}
	b.change(Due{Owner: id, At: r.derived, Alert: alertID, Round: 1, Level: r.derivedLevel, Kind: kindDerived}.drop())
	return b.withdrawAbove(ctx, id, nil, alertID, 1, 0, func() (*dubanv1.LevelWithdrawn, error) { return b.evidence(ctx, id, e, r.due) })
}

// limitsOf is where running limits are kept.
func limitsOf(own bool) *store.Table {
	if own {
		return RunningLimit
	}
	return WatchedLimit
}

func (b *batch) keep(id journal.ID, r running) {
	b.running[[2]string{r.caseID, r.point}] = &r
	row := r.watchedRow()
	if id == b.own {
		row = r.row()
	}
	b.change(store.Change{Table: limitsOf(id == b.own), Owner: id, Row: row})
}

func (b *batch) runningLimit(ctx context.Context, id journal.ID, caseID, point string) (*running, error) {
	if r, known := b.running[[2]string{caseID, point}]; known {
		return r, nil
	}
	row, there, err := b.state.Get(ctx, id, limitsOf(id == b.own), caseID, point)
	if err != nil {
		return nil, fmt.Errorf("limit of case %s: %w", caseID, err)
	}
	if !there {
		return nil, nil
	}
	r := limitOf(id == b.own, row)
	return &r, nil
}

func limitOf(own bool, row store.Row) running {
	if own {
		return runningOf(row)
	}
	return watchedOf(row)
}

// parseLimit reads what a row says; the zero limit for "".
func parseLimit(s string) workday.Limit {
	l, err := workday.ParseLimit(s)
	if err != nil {
		return workday.Limit{}
	}
	return l
}
