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

// caseEntry applies the rules to an entry about a case of the own journal.
func (b *batch) caseEntry(ctx context.Context, j judgement, e *journal.Entry, m caseMessage) error {
	c, err := b.caseOf(ctx, j, m)
	if err != nil {
		return err
	}
	if c == nil || c.Imported { // imported history opens no live levels
		return nil
	}
	out, err := j.set.Step(j.calendar, *c, rule.Event{Number: e.Number, OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt, Payload: m})
	if err != nil {
		b.log.Error("conditions of alert points failed", slog.Uint64("number", e.Number), slog.String("case", c.ID), slog.Any("error", err))
	}
	for _, point := range out.Ends {
		if err := b.end(ctx, c.ID, point, e.RecordedAt); err != nil {
			return err
		}
	}
	for _, s := range out.Starts {
		if err := b.start(ctx, c, s, e.RecordedAt); err != nil {
			return err
		}
	}
	for _, f := range out.Firings {
		var failed error
		site := b.site(ctx, j, b.own, &failed)
		if err := b.open(ctx, site.Next(b.levelZero(c, f.Point, f.Trigger, f.Text), f.At), 0, 0); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// caseOf is what is fixed about the case of an entry; nil where it is not known.
func (b *batch) caseOf(ctx context.Context, j judgement, m caseMessage) (*rule.Case, error) {
	id := m.GetCaseId()
	o, isOpening := m.(*dubanv1.CaseOpened)
	if !isOpening {
		o = b.openings.get(id)
	}
	if o == nil {
		var err error
		if o, err = b.cases.Opening(ctx, b.own, id); err != nil {
			return nil, fmt.Errorf("case %s: %w", id, err)
		}
		if o == nil {
			return nil, nil
		}
	}
	b.openings.put(id, o)
	c := &rule.Case{
		Journal: b.own, ID: id, Procedure: o.GetProcedure(), Item: o.GetItem(), Agency: o.GetAgency(), Tier: b.tier,
		Generated: o.GetGenerated(), Imported: o.GetImported(), Fields: o.GetFields(), Source: o.GetSource(),
	}
	if p := j.profile.Procedure(c.Procedure); p != nil {
		c.Act = p.Act
	}
	return c, nil
}

// openings remembers openings of the own journal's cases, which never change, in two generations.
type openings struct {
	young, old map[string]*dubanv1.CaseOpened
}

const generation = 8192 // cases

func (o *openings) get(id string) *dubanv1.CaseOpened {
	if m := o.young[id]; m != nil {
		return m
	}
	return o.old[id]
}

func (o *openings) put(id string, m *dubanv1.CaseOpened) {
	if len(o.young) >= generation || o.young == nil {
		o.old, o.young = o.young, make(map[string]*dubanv1.CaseOpened, generation)
	}
	o.young[id] = m
}

// levelZero is what level 1 of an alert copies.
func (b *batch) levelZero(c *rule.Case, p *profile.Point, trigger uint64, text string) *dubanv1.LevelOpened {
	return &dubanv1.LevelOpened{
		AlertId: alert.ID(b.own, c.ID, p.Name, trigger), Round: 1,
		Point: p.Name, Article: p.Article, Grade: p.Grade, Journal: b.own[:], CaseId: c.ID, Agency: c.Agency, Trigger: trigger,
		Receiver: b.code, Tier: c.Tier, Text: text, Generated: c.Generated,
	}
}

// start keeps a limit that began. Where one of the same point runs already, which ends sooner, that one stays alone.
func (b *batch) start(ctx context.Context, c *rule.Case, s rule.Start, recordedAt int64) error {
	was, err := b.runningLimit(ctx, c.ID, s.Point.Name)
	if err != nil {
		return err
	}
	if was != nil && was.due > recordedAt && was.trigger != s.Trigger {
		return nil
	}
	o := b.levelZero(c, s.Point, s.Trigger, s.Text)
	o.StartUs, o.Limit = s.StartAt, s.Point.Limit.String()
	o.DueUs, o.OpenEndedYear = due(s.Due)
	r := running{
		caseID: c.ID, point: s.Point.Name, trigger: s.Trigger, start: s.StartAt, due: orNever(o.DueUs), limitText: o.Limit,
	}
	if !s.Point.Warn.IsZero() {
		r.warnText = s.Point.Warn.String()
	}
	if o.DueUs != 0 {
		r.warn = s.WarnAt
	}
	b.keep(r)
	return b.plantLimit(r, o)
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

// end drops a running limit. One that an event ended after its due time has fired, or is about to.
func (b *batch) end(ctx context.Context, caseID, point string, recordedAt int64) error {
	r, err := b.runningLimit(ctx, caseID, point)
	if err != nil || r == nil {
		return err
	}
	id := alert.ID(b.own, caseID, point, r.trigger)
	b.running[[2]string{caseID, point}] = nil
	b.change(store.Change{Table: RunningLimit, Owner: b.own, Row: store.Row{caseID, point}, Delete: true})
	if r.warn != 0 {
		b.change(Due{Owner: b.own, At: r.warn, Alert: id, Round: 1, Kind: kindCard}.drop())
	}
	if recordedAt < r.due {
		b.change(Due{Owner: b.own, At: r.due, Alert: id, Round: 1, Kind: kindLevel}.drop())
	}
	return nil
}

func (b *batch) keep(r running) {
	b.running[[2]string{r.caseID, r.point}] = &r
	b.change(store.Change{Table: RunningLimit, Owner: b.own, Row: r.row()})
}

func (b *batch) runningLimit(ctx context.Context, caseID, point string) (*running, error) {
	if r, known := b.running[[2]string{caseID, point}]; known {
		return r, nil
	}
	row, there, err := b.state.Get(ctx, b.own, RunningLimit, caseID, point)
	if err != nil {
		return nil, fmt.Errorf("limit of case %s: %w", caseID, err)
	}
	if !there {
		return nil, nil
	}
	r := runningOf(row)
	return &r, nil
}

// parseLimit reads what a row says; the zero limit for "".
func parseLimit(s string) workday.Limit {
	l, err := workday.ParseLimit(s)
	if err != nil {
		return workday.Limit{}
	}
	return l
}
