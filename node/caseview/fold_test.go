package caseview

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/configs"
	"duban.internal/node/journal"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// rows are tables in maps.
type rows map[string]store.Row

func id(t *store.Table, key []any) string { return t.Name + fmt.Sprint(key...) }

func (r rows) Get(t *store.Table, key ...any) (store.Row, bool) {
	row, ok := r[id(t, key)]
	return row, ok
}
func (r rows) Put(t *store.Table, row store.Row) { r[id(t, row[:t.Key])] = row }
func (r rows) Delete(t *store.Table, key ...any) { delete(r, id(t, key)) }
func (r rows) clone() rows {
	c := rows{}
	for k, v := range r {
		c[k] = v
	}
	return c
}
func (r rows) columns(t *store.Table, k ...any) store.Row { return r[id(t, k)] }

// journalOf folds messages as the entries of one journal.
type journalOf struct {
	t      testing.TB
	rows   rows
	number uint64
}

func newJournal(t testing.TB) *journalOf {
	t.Helper()
	j := &journalOf{t: t, rows: rows{}}
	p, err := profile.Load(configs.FS, "profiles/tianjin")
	require.NoError(t, err)
	hash := p.Hash()
	m := &dubanv1.ProfileAdopted{Name: p.Name, Hash: hash[:]}
	for _, f := range p.Files() {
		m.Files = append(m.Files, &dubanv1.File{Path: f.Path, Content: f.Content})
	}
	require.NoError(t, j.add(dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED, "node", m))
	return j
}

func (j *journalOf) entry(kind dubanv1.EntryKind, stream string, m proto.Message) *journal.Entry {
	payload, err := proto.Marshal(m)
	require.NoError(j.t, err)
	e := &journal.Entry{Payload: payload}
	e.Number, e.Kind, e.Stream, e.RecordedAt, e.OccurredAt = j.number, uint32(kind), stream, int64(j.number)*10, int64(j.number)*10
	return e
}

func (j *journalOf) add(kind dubanv1.EntryKind, stream string, m proto.Message) error {
	err := apply(j.rows, j.entry(kind, stream, m))
	j.number++
	return err
}

func (j *journalOf) stage(stage string, at int64) error {
	return j.add(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, "case/c", &dubanv1.StageRecorded{
		CaseId: "c", Stage: stage, CompletedUs: at, Handler: "o-1",
	})
}

func TestFoldClosing(t *testing.T) {
	j := newJournal(t)
	require.NoError(t, j.add(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, "case/c", &dubanv1.CaseOpened{CaseId: "c", Procedure: "penalty_general", Agency: "a"}))
	require.NoError(t, j.stage("filing", 50))
	require.Equal(t, int64(0), j.rows.columns(CaseRow, "c")[9])
	closing := int64(j.number)
	require.NoError(t, j.stage("closing", 60))
	require.Equal(t, int64(60), j.rows.columns(CaseRow, "c")[9])
	require.Equal(t, store.Row{int64(0), int64(1), int64(1), int64(0)}, j.rows.columns(CaseCount, int64(0)))
	require.Equal(t, int64(3), j.rows.columns(CaseState, "c")[1])

	// T14: the date of closing is corrected; the case is not counted closed twice.
	require.NoError(t, j.add(dubanv1.EntryKind_ENTRY_KIND_CORRECTION_REQUESTED, "case/c", &dubanv1.CorrectionRequested{
		CaseId: "c", CorrectionId: "k", Entry: uint64(closing), Changes: map[string]string{"completed_us": "55", "fields.x": "y"},
	}))
	require.NoError(t, j.add(dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED, "case/c", &dubanv1.CorrectionDecided{CaseId: "c", CorrectionId: "k", Approved: true}))
	require.Equal(t, int64(55), j.rows.columns(CaseRow, "c")[9])
	require.Equal(t, int64(55), j.rows.columns(CaseEntry, "c", closing)[6])
	require.Equal(t, int64(1), j.rows.columns(CaseCount, int64(0))[2])
}

// What does not belong changes nothing.
func TestFoldRefuses(t *testing.T) {
	j := newJournal(t)
	require.NoError(t, j.add(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, "case/c", &dubanv1.CaseOpened{CaseId: "c", Procedure: "penalty_general"}))
	before := j.rows.clone()
	require.Error(t, j.add(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, "case/c", &dubanv1.CaseOpened{CaseId: "c"}), "opened twice")
	require.Error(t, j.add(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, "case/d", &dubanv1.CaseOpened{CaseId: "e"}), "in another's stream")
	require.Error(t, j.add(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, "case/x", &dubanv1.StageRecorded{CaseId: "x"}), "of no case")
	require.Error(t, j.add(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, "case/c", &dubanv1.StageRecorded{CaseId: "x"}), "about another")
	require.Error(t, j.add(dubanv1.EntryKind_ENTRY_KIND_CORRECTION_DECIDED, "case/c", &dubanv1.CorrectionDecided{CaseId: "c", CorrectionId: "k"}), "of no application")
	require.Equal(t, before, j.rows)
}

// An erased entry still counts.
func TestFoldErased(t *testing.T) {
	j := newJournal(t)
	require.NoError(t, j.add(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, "case/c", &dubanv1.CaseOpened{CaseId: "c", Procedure: "penalty_general"}))
	e := j.entry(dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN, "case/c", &dubanv1.ExplanationGiven{})
	e.Erased, e.Payload = true, nil
	require.NoError(t, apply(j.rows, e))
	require.Equal(t, int64(2), j.rows.columns(CaseState, "c")[1])
	e.Stream = "case/gone"
	require.NoError(t, apply(j.rows, e))
}

func BenchmarkFoldStage(b *testing.B) {
	j := newJournal(b)
	require.NoError(b, j.add(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, "case/c", &dubanv1.CaseOpened{CaseId: "c", Procedure: "penalty_general", Agency: "a-1"}))
	for i := range 6 {
		require.NoError(b, j.stage("investigation", int64(i)))
	}
	kept := j.rows.columns(CaseState, "c")
	e := j.entry(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, "case/c", &dubanv1.StageRecorded{
		CaseId: "c", Stage: "investigation", CompletedUs: 5, Handler: "o-1", Officers: []string{"o-1", "o-2"},
		Documents: []*dubanv1.Document{{Name: "investigation_report", Code: "D"}}, Fields: map[string]string{"certificate_shown": "yes"},
	})
	for b.Loop() {
		if err := apply(j.rows, e); err != nil {
			b.Fatal(err)
		}
		j.rows.Put(CaseState, kept)
	}
}
