package caseview

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"duban.internal/node/clock"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// figureCache keeps the last figures for as long as nothing was folded.
type figureCache struct {
	mu    sync.Mutex
	sizes []uint64
	last  *dubanv1.CaseFigures
}

// Figures counts the cases of all journals held and, for every point of a profile in force with a limit in natural days
// that runs by timer between stages, the cases that were ended after it and those that never ended. Points whose triggers
// have a condition are left out: escalation/rule judges those. Counting goes over all stages, once after anything changed.
func (v *View) Figures(ctx context.Context) (*dubanv1.CaseFigures, error) {
	v.figures.mu.Lock()
	defer v.figures.mu.Unlock()
	infos := v.store.Journals()
	sizes := make([]uint64, len(infos))
	for i, info := range infos {
		sizes[i] = info.Folded
	}
	if v.figures.last != nil && slices.Equal(sizes, v.figures.sizes) {
		return v.figures.last, nil
	}
	f := new(dubanv1.CaseFigures)
	for _, info := range infos {
		if err := v.add(ctx, f, info); err != nil {
			return nil, fmt.Errorf("figures of journal %s: %w", info.ID, err)
		}
	}
	v.figures.sizes, v.figures.last = sizes, f
	return f, nil
}

func (v *View) add(ctx context.Context, f *dubanv1.CaseFigures, info store.Info) error {
	row, ok, err := v.store.Get(ctx, info.ID, CaseCount, int64(0))
	if err != nil || !ok {
		return err
	}
	total, closed, imported := uint64(row[1].(int64)), uint64(row[2].(int64)), uint64(row[3].(int64))
	f.Total += total
	f.Closed += closed
	f.Open += total - closed
	f.Imported += imported
	p, calendar, err := v.registry.Judged(ctx, info.ID, info.Size)
	if err != nil {
		return err
	}
	spans := spansOf(p, calendar)
	if len(spans) == 0 {
		return nil
	}
	if err := v.store.View(ctx, func(q store.Queryer) error { return measure(ctx, q, info, spans) }); err != nil {
		return err
	}
	for i := range spans {
		spans[i].addTo(f)
	}
	return nil
}

// span is a point's limit between stages, with its count.
type span struct {
	point        *profile.Point
	calendar     *workday.Calendar
	starts, ends []string
	procedures   []string // of the kinds of act that are watched; nil for all
	running      bool
	startedAt    int64
	late, never  uint64
}

func spansOf(p *profile.Profile, c *workday.Calendar) []span {
	var spans []span
	for i := range p.Points {
		pt := &p.Points[i]
		if pt.Judged != "timer" || pt.Limit.Unit != workday.NaturalDays || !plain(pt.Start) || len(pt.End) == 0 {
			continue
		}
		s := span{point: pt, calendar: c, starts: pt.Start.Stages}
		if len(pt.Start.Acts) > 0 {
			s.procedures = []string{}
			for j := range p.Procedures {
				if pr := &p.Procedures[j]; slices.Contains(pt.Start.Acts, pr.Act) {
					s.procedures = append(s.procedures, pr.Name)
				}
			}
		}
		for _, e := range pt.End {
			if plain(e) {
				s.ends = append(s.ends, e.Stages...)
			}
		}
		if len(s.ends) > 0 {
			spans = append(spans, s)
		}
	}
	return spans
}

func plain(t profile.Trigger) bool { return t.On == "stage" && t.When == "" && len(t.Stages) > 0 }

// measure goes over a journal's stages, case by case.
func measure(ctx context.Context, q store.Queryer, info store.Info, spans []span) error {
	text := `SELECT case_id, stage, completed_us, '' FROM case_entry WHERE journal = $1 AND kind = $2 ORDER BY case_id, number`
	if slices.ContainsFunc(spans, func(s span) bool { return s.procedures != nil }) {
		text = `SELECT e.case_id, e.stage, e.completed_us, c.procedure
			FROM case_entry e JOIN case_row c ON c.journal = e.journal AND c.case_id = e.case_id
			WHERE e.journal = $1 AND e.kind = $2 ORDER BY e.case_id, e.number`
	}
	rows, err := q.QueryContext(ctx, text, info.Ordinal, int64(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED))
	if err != nil {
		return err
	}
	defer rows.Close()
	var last, id, stage, procedure string
	var at int64
	for rows.Next() {
		if err := rows.Scan(&id, &stage, &at, &procedure); err != nil {
			return err
		}
		for i := range spans {
			s := &spans[i]
			if id != last {
				s.finish()
			}
			if s.procedures == nil || slices.Contains(s.procedures, procedure) {
				s.stage(stage, at)
			}
		}
		last = id
	}
	for i := range spans {
		spans[i].finish()
	}
	return rows.Err()
}

func (s *span) stage(stage string, at int64) {
	if s.running && slices.Contains(s.ends, stage) {
		s.running = false
		if s.calendar.Due(clock.Time(s.startedAt), s.point.Limit).Passed(clock.Time(at)) {
			s.late++
		}
		return
	}
	if !s.running && slices.Contains(s.starts, stage) {
		s.running, s.startedAt = true, at
	}
}

func (s *span) finish() {
	if s.running {
		s.never++
	}
	s.running = false
}

func (s *span) addTo(f *dubanv1.CaseFigures) {
	limit := s.point.Limit.String()
	for _, o := range f.Overdue {
		if o.GetPoint() == s.point.Name && o.GetLimit() == limit {
			o.EndedLate += s.late
			o.NeverEnded += s.never
			return
		}
	}
	f.Overdue = append(f.Overdue, &dubanv1.OverdueFigure{Point: s.point.Name, Limit: limit, EndedLate: s.late, NeverEnded: s.never})
}
