package caseview

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/casefile"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/workday"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Reader is what the view reads of a store.
type Reader interface {
	Own() journal.ID
	Journals() []store.Info
	Journal(id journal.ID) (store.Info, bool)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	View(ctx context.Context, fn func(q store.Queryer) error) error
}

// Registry is what the view asks of the base information.
type Registry interface {
	Jurisdiction(ctx context.Context, id journal.ID) (jurisdiction.Division, bool, error)
	Judged(ctx context.Context, id journal.ID, number uint64) (*profile.Profile, *workday.Calendar, error)
}

// View answers queries over the tables that Fold keeps. It is safe for concurrent use.
type View struct {
	store    Reader
	registry Registry
	tree     *jurisdiction.Tree
	figures  figureCache
}

// New makes a view. The tree says what lies below a jurisdiction.
func New(s Reader, r Registry, tree *jurisdiction.Tree) *View {
	return &View{store: s, registry: r, tree: tree}
}

// State is what the gate must know of a case, nil where the journal has none by that id, and how many entries the case has:
// the version of its stream.
func (v *View) State(ctx context.Context, id journal.ID, caseID string) (st *casefile.State, version uint64, err error) {
	p, row, err := v.progress(ctx, id, caseID)
	if err != nil || p == nil {
		return nil, 0, err
	}
	return p.state(caseID), uint64(row[1].(int64)), nil
}

func (v *View) progress(ctx context.Context, id journal.ID, caseID string) (*progress, store.Row, error) {
	row, ok, err := v.store.Get(ctx, id, CaseState, caseID)
	if err != nil || !ok {
		return nil, nil, err
	}
	p, err := decodeProgress(row[3].([]byte))
	if err != nil {
		return nil, nil, fmt.Errorf("case %s of journal %s: %w", caseID, id, err)
	}
	return p, row, nil
}

// Opening is a case's opening as it was recorded; nil where the journal has no such case or its payload was erased.
func (v *View) Opening(ctx context.Context, id journal.ID, caseID string) (*dubanv1.CaseOpened, error) {
	e, ok, err := v.OpeningEntry(ctx, id, caseID)
	if err != nil || !ok || e.Erased {
		return nil, err
	}
	var m dubanv1.CaseOpened
	if err := proto.Unmarshal(e.Payload, &m); err != nil {
		return nil, fmt.Errorf("entry %d of journal %s: %w", e.Number, id, err)
	}
	return &m, nil
}

// OpeningEntry is the entry that opened a case; ok is false where the journal has none by that id.
func (v *View) OpeningEntry(ctx context.Context, id journal.ID, caseID string) (e journal.Entry, ok bool, err error) {
	p, _, err := v.progress(ctx, id, caseID)
	if err != nil || p == nil {
		return e, false, err
	}
	e, err = v.entry(ctx, id, p.opening)
	return e, err == nil, err
}

// Agency is who acts in a case; "" where the journal has none by that id.
func (v *View) Agency(ctx context.Context, id journal.ID, caseID string) (string, error) {
	p, _, err := v.progress(ctx, id, caseID)
	if err != nil || p == nil {
		return "", err
	}
	return p.agency, nil
}

func (v *View) entry(ctx context.Context, id journal.ID, number uint64) (journal.Entry, error) {
	entries, err := v.store.Read(ctx, id, number, 1)
	if err != nil {
		return journal.Entry{}, fmt.Errorf("entry %d of journal %s: %w", number, id, err)
	}
	if len(entries) == 0 {
		return journal.Entry{}, fault.New(fault.Internal, "journal %s has no entry %d", id, number)
	}
	return entries[0], nil
}

// Record is what an entry of a case says, as it stands with the corrections approved so far; nil where that entry is not
// one of the case, or was erased.
func (v *View) Record(ctx context.Context, id journal.ID, caseID string, number uint64) (proto.Message, error) {
	info, ok := v.store.Journal(id)
	if !ok || number >= info.Size {
		return nil, nil
	}
	e, err := v.entry(ctx, id, number)
	if err != nil || e.Erased || e.Stream != Stream(caseID) {
		return nil, err
	}
	m, err := decode(&e)
	if err != nil {
		return nil, err
	}
	p, _, err := v.progress(ctx, id, caseID)
	if err != nil || p == nil {
		return nil, err
	}
	for _, c := range p.corrections {
		if c.Entry != number || !c.Approved {
			continue
		}
		request, err := v.application(ctx, id, caseID, c.ID)
		if err != nil {
			return nil, err
		}
		m, _ = casefile.Correct(m, request.GetChanges())
	}
	return m, nil
}

func (v *View) application(ctx context.Context, id journal.ID, caseID, correction string) (*dubanv1.CorrectionRequested, error) {
	row, ok, err := v.store.Get(ctx, id, CaseCorrection, caseID, correction)
	if err != nil || !ok {
		return nil, err
	}
	var m dubanv1.CorrectionRequested
	if err := proto.Unmarshal(row[2].([]byte), &m); err != nil {
		return nil, fmt.Errorf("application %s of case %s: %w", correction, caseID, err)
	}
	return &m, nil
}

func decode(e *journal.Entry) (proto.Message, error) {
	var m proto.Message
	switch dubanv1.EntryKind(e.Kind) {
	case dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED:
		m = new(dubanv1.CaseOpened)
	case dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED:
		m = new(dubanv1.StageRecorded)
	case dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED:
		m = new(dubanv1.EvidenceAttached)
	case dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN:
		m = new(dubanv1.ExplanationGiven)
	case dubanv1.EntryKind_ENTRY_KIND_CORRECTION_REQUESTED:
		m = new(dubanv1.CorrectionRequested)
	case dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED:
		m = new(dubanv1.CorrectionDecided)
	default:
		return nil, fmt.Errorf("entry %d: kind %d is none of a case", e.Number, e.Kind)
	}
	if err := proto.Unmarshal(e.Payload, m); err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Number, err)
	}
	return m, nil
}

// Case is a case, whole: what was recorded, with approved corrections as new versions beside the old. nil where the journal
// has none by that id.
func (v *View) Case(ctx context.Context, id journal.ID, caseID string) (*dubanv1.Case, error) {
	info, ok := v.store.Journal(id)
	if !ok {
		return nil, fault.Refuse(fault.NotFound, "this node holds no such journal", fault.Field{Field: "journal", Description: id.String()})
	}
	var c *dubanv1.Case
	var numbers []uint64
	err := v.store.View(ctx, func(q store.Queryer) (err error) {
		if c, err = one(ctx, q, info, caseID); err != nil || c == nil {
			return err
		}
		numbers, err = entries(ctx, q, info, caseID)
		return err
	})
	if err != nil || c == nil {
		return nil, err
	}
	if err := v.place(ctx, c, id); err != nil {
		return nil, err
	}
	w := whole{Case: c}
	for _, n := range numbers {
		e, err := v.entry(ctx, id, n)
		if err != nil {
			return nil, err
		}
		if e.Erased {
			continue
		}
		m, err := decode(&e)
		if err != nil {
			return nil, err
		}
		w.add(&e, m)
	}
	return c, nil
}

// place says where the case's journal stands.
func (v *View) place(ctx context.Context, c *dubanv1.Case, id journal.ID) error {
	d, _, err := v.registry.Jurisdiction(ctx, id)
	c.Journal, c.Jurisdiction = id[:], string(d.Code)
	return err
}

func entries(ctx context.Context, q store.Queryer, info store.Info, caseID string) (numbers []uint64, err error) {
	rows, err := q.QueryContext(ctx, `SELECT number FROM case_entry WHERE journal = $1 AND case_id = $2 ORDER BY number`,
		info.Ordinal, caseID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n uint64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, rows.Err()
}

// whole builds a case from its entries, in order.
type whole struct{ *dubanv1.Case }

func (w *whole) add(e *journal.Entry, m proto.Message) {
	switch m := m.(type) {
	case *dubanv1.CaseOpened:
		w.OpeningEntry, w.Opening = e.Number, m
	case *dubanv1.StageRecorded:
		w.Stages = append(w.Stages, &dubanv1.CaseStage{Number: e.Number, RecordedUs: e.RecordedAt, Stage: m, Versions: 1})
	case *dubanv1.EvidenceAttached:
		w.EvidenceEntries, w.Evidence = append(w.EvidenceEntries, e.Number), append(w.Evidence, m)
	case *dubanv1.ExplanationGiven:
		w.ExplanationEntries, w.Explanations = append(w.ExplanationEntries, e.Number), append(w.Explanations, m)
	case *dubanv1.CorrectionRequested:
		w.Corrections = append(w.Corrections, &dubanv1.CaseCorrection{Request: m})
	case *dubanv1.CorrectionDecided:
		for _, c := range w.Corrections {
			if c.GetRequest().GetCorrectionId() == m.GetCorrectionId() && c.GetDecision() == nil {
				c.Decision = m
				if m.GetApproved() {
					w.correct(c.GetRequest())
				}
			}
		}
	}
}

// correct puts the new version in front; the old one is kept beside it (T14).
func (w *whole) correct(c *dubanv1.CorrectionRequested) {
	made := func(m proto.Message) proto.Message {
		corrected, _ := casefile.Correct(m, c.GetChanges())
		return corrected
	}
	if c.GetEntry() == w.OpeningEntry && w.Opening != nil {
		w.EarlierOpenings = append(w.EarlierOpenings, w.Opening)
		w.Opening = made(w.Opening).(*dubanv1.CaseOpened)
		return
	}
	for _, s := range w.Stages {
		if s.GetNumber() == c.GetEntry() {
			s.Earlier = append(s.Earlier, s.Stage)
			s.Stage, s.Versions = made(s.Stage).(*dubanv1.StageRecorded), s.Versions+1
			return
		}
	}
	for i, n := range w.EvidenceEntries {
		if n == c.GetEntry() {
			w.EarlierEvidence = append(w.EarlierEvidence, w.Evidence[i])
			w.Evidence[i] = made(w.Evidence[i]).(*dubanv1.EvidenceAttached)
		}
	}
	for i, n := range w.ExplanationEntries {
		if n == c.GetEntry() {
			w.EarlierExplanations = append(w.EarlierExplanations, w.Explanations[i])
			w.Explanations[i] = made(w.Explanations[i]).(*dubanv1.ExplanationGiven)
		}
	}
}

// Uses says which agencies' cases an attachment is evidence or a document in, over all journals held.
func (v *View) Uses(ctx context.Context, sha256 []byte) (agencies []string, err error) {
	err = v.store.View(ctx, func(q store.Queryer) error {
		agencies = agencies[:0]
		for _, info := range v.store.Journals() {
			some, err := users(ctx, q, info, sha256)
			if err != nil {
				return err
			}
			agencies = append(agencies, some...)
		}
		return nil
	})
	return agencies, err
}

func users(ctx context.Context, q store.Queryer, info store.Info, sha256 []byte) (agencies []string, err error) {
	rows, err := q.QueryContext(ctx, `SELECT DISTINCT agency FROM attachment_use WHERE journal = $1 AND sha256 = $2`,
		info.Ordinal, sha256)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var a string
		if err := rows.Scan(&a); err != nil {
			return nil, err
		}
		agencies = append(agencies, a)
	}
	return agencies, rows.Err()
}
