package bulk_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/bulk"
	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

const mapping = `
name: test
format: csv
columns: [number, created, completed, ward]
zone: Asia/Shanghai
time: "2006-01-02"
tables:
  ward: {"0": "990100000", "1": "990100001"}
case:
  id: "{number}-{hash}"
  number: "{number}"
  agency: sanitation
  procedure: violation
  division: {column: ward, table: ward, required: true}
  occurred: "{created}"
  fields: {kind: "of {number}", none: "{completed}"}
stages:
  - stage: filing
    completed: "{created}"
  - stage: closing
    if: completed
    completed: "{completed}"
    result: closed
`

const rows = `number,created,completed,ward
n1,2026-01-02,,1
n2,2026-01-02,2026-01-03,0
n2,2026-01-02,2026-01-03,0
n2,2026-01-02,2026-01-04,0
n3,2026-01-02,2026-01-03,
n4,2026-01-02,2026-01-03
n5,2026-13-02,2026-01-03,77
refuse,2026-01-02,2026-01-03,1
`

// node answers as a node does: a natural key is taken once, and "refuse" never.
type node struct {
	mu      sync.Mutex
	keys    map[string]*dubanv1.CollectRequest
	dieAt   int // answers after which the stream breaks; 0 for never
	answers int
}

type stream struct {
	n  *node
	in chan *dubanv1.CollectRequest
}

func (n *node) open(context.Context) (bulk.Stream, error) {
	return &stream{n, make(chan *dubanv1.CollectRequest, 100)}, nil
}

func (s *stream) Send(r *dubanv1.CollectRequest) error { s.in <- r; return nil }
func (s *stream) CloseSend() error                     { close(s.in); return nil }
func (s *stream) Recv() (*dubanv1.CollectResponse, error) {
	r, ok := <-s.in
	if !ok {
		return nil, io.EOF
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.n.answers++
	if s.n.dieAt > 0 && s.n.answers >= s.n.dieAt {
		return nil, fault.New(fault.Unavailable, "gone")
	}
	out := &dubanv1.CollectResponse{RecordId: r.RecordId, Outcome: dubanv1.CollectOutcome_COLLECT_OUTCOME_TAKEN}
	switch _, there := s.n.keys[r.RecordId]; {
	case r.GetHistory().GetCase().GetNumber() == "refuse":
		out.Outcome = dubanv1.CollectOutcome_COLLECT_OUTCOME_REFUSED
		out.Violations = []*dubanv1.FieldViolation{{Field: "case.number", Description: "no"}, {Field: "case.item", Description: "neither"}}
	case there:
		out.Outcome = dubanv1.CollectOutcome_COLLECT_OUTCOME_ALREADY_THERE
	default:
		s.n.keys[r.RecordId] = r
	}
	return out, nil
}

func run(t *testing.T, n *node, mapping, input string, streams int) (bulk.Summary, string, error) {
	t.Helper()
	m, err := bulk.ParseMapping([]byte(mapping))
	require.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "in")
	require.NoError(t, os.WriteFile(file, []byte(input), 0o600))
	source, err := m.Open(file)
	require.NoError(t, err)
	defer source.Close()
	refused, err := m.CreateRefused(filepath.Join(dir, "refused.csv"))
	require.NoError(t, err)
	r := bulk.Run{Mapping: m, Source: source, Refused: refused, Open: n.open, Streams: streams, Window: 2}
	s, err := r.Do(t.Context())
	require.NoError(t, refused.Close(s.Ended))
	name := filepath.Join(dir, "refused.csv")
	if !s.Ended {
		_, statErr := os.Stat(name)
		require.ErrorIs(t, statErr, os.ErrNotExist)
		name += ".part"
	}
	content, readErr := os.ReadFile(name)
	require.NoError(t, readErr)
	return s, string(content), err
}

func TestRowsBecomeRecordsOnce(t *testing.T) {
	for _, streams := range []int{1, 4} {
		n := &node{keys: map[string]*dubanv1.CollectRequest{}}
		s, refused, err := run(t, n, mapping, rows, streams)
		require.NoError(t, err)
		require.Equal(t, bulk.Summary{Rows: 8, Taken: 3, AlreadyThere: 1, Refused: 4, Records: 8, Ended: true}, s)
		for _, want := range []string{
			"number,created,completed,ward,line,reason\n",
			"n3,2026-01-02,2026-01-03,,6,\"ward: is empty, and division needs it\"\n",
			"n4,2026-01-02,2026-01-03,,7,\"row: 3 fields, expected 4\"\n",
			`n5,2026-13-02,2026-01-03,77,8,"ward: ""77"" is not in the table ward, and division needs it; occurred: ""2026-13-02"": expected a time such as 2006-01-02; filing.completed: `,
			"refuse,2026-01-02,2026-01-03,1,9,case.number: no; case.item: neither\n",
		} {
			require.Contains(t, refused, want)
		}
		require.Equal(t, 5, strings.Count(refused, "\n"))
		for _, r := range n.keys {
			if c := r.GetHistory().GetCase(); c.GetNumber() == "n1" {
				require.Regexp(t, `^test:[0-9a-f]{64}$`, r.RecordId)
				require.Len(t, r.GetHistory().GetStages(), 1)
				require.Equal(t, c.CaseId, r.GetHistory().GetStages()[0].GetCaseId())
				require.Regexp(t, `^n1-[0-9a-f]{8}$`, c.CaseId)
				require.Equal(t, "990100001", c.Division)
				require.Equal(t, map[string]string{"kind": "of n1"}, c.Fields)
				require.True(t, c.Imported)
				require.Equal(t, int64(1767283200_000000), r.OccurredUs)
			}
		}
		again, _, err := run(t, n, mapping, rows, streams)
		require.NoError(t, err)
		require.Equal(t, bulk.Summary{Rows: 8, AlreadyThere: 4, Refused: 4, Ended: true}, again)
	}
}

// Wherever the stream breaks, running again ends as if it had run once.
func TestBrokenOffAndRunAgain(t *testing.T) {
	for at := 1; at <= 5; at++ {
		n := &node{keys: map[string]*dubanv1.CollectRequest{}, dieAt: at}
		first, _, err := run(t, n, mapping, rows, 2)
		require.True(t, fault.Is(err, fault.Unavailable), "%v", err)
		require.False(t, first.Ended)
		n.dieAt = 0
		s, _, err := run(t, n, mapping, rows, 2)
		require.NoError(t, err)
		require.Len(t, n.keys, 3)
		require.Equal(t, 8, s.Rows)
		require.Equal(t, 4, s.Taken+s.AlreadyThere)
		require.GreaterOrEqual(t, s.AlreadyThere, 1)
	}
}

func TestJSONLinesGzipped(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := io.WriteString(w, `{"number": "n1", "created": "2026-01-02", "completed": null, "ward": 1}

{"number": "n2", "created": "2026-01-02", "ward": "0", "completed": "2026-01-03"}
{"ward": 1, "created": "2026-01-02",  "number": "n1"}
{"number": "n3", "created": "2026-01-02", "ward": "0", "colour": "red"}
[1]
`)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	n := &node{keys: map[string]*dubanv1.CollectRequest{}}
	s, refused, err := run(t, n, strings.Replace(mapping, "format: csv", "format: jsonl", 1), zipped.String(), 2)
	require.NoError(t, err)
	require.Equal(t, bulk.Summary{Rows: 5, Taken: 2, AlreadyThere: 1, Refused: 2, Records: 5, Ended: true}, s)
	require.Contains(t, refused, `key ""colour"" is none of the columns number, created, completed, ward`)
	require.Contains(t, refused, "not a JSON object")
}

func TestMappingSaysEverythingThatIsWrong(t *testing.T) {
	_, err := bulk.ParseMapping([]byte(`
name: A name
format: xml
columns: [a, a]
zone: Nowhere
case:
  id: "{b}"
  agency: {table: x}
  fields: {f: {column: c, table: y}}
stages:
  - {stage: s, if: z, completed: "{a}"}
  - {stage: s}
tables: {t: {}}
`))
	require.True(t, fault.Is(err, fault.Invalid))
	var fields []string
	for _, f := range fault.Fields(err) {
		fields = append(fields, f.Field)
	}
	require.Equal(t, []string{"case.agency.column", "case.agency.table", "case.fields.f.column", "case.fields.f.table", "case.id", "case.id",
		"case.number", "case.occurred", "case.procedure", "columns[1]", "format", "name", "stages[0].if", "stages[1].completed", "stages[1].stage", "time", "zone"}, fields)

	_, err = bulk.ParseMapping([]byte(strings.Replace(mapping, "agency:", "agancy:", 1)))
	require.ErrorContains(t, err, "agancy")
	_, err = bulk.ParseMapping([]byte(strings.Replace(mapping, "{column: ward,", "{colum: ward,", 1)))
	require.ErrorContains(t, err, "colum")
}

func TestShippedMappings(t *testing.T) {
	files, err := filepath.Glob("../../../configs/import/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		_, err := bulk.LoadMapping(file)
		require.NoError(t, err)
	}
}

func TestWrongHeading(t *testing.T) {
	m, err := bulk.ParseMapping([]byte(mapping))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "in.csv")
	require.NoError(t, os.WriteFile(file, []byte("number,ward\n"), 0o600))
	_, err = m.Open(file)
	require.ErrorContains(t, err, "heading number,ward: expected number,created,completed,ward")
	_, err = m.Open(file + "x")
	require.True(t, fault.Is(err, fault.Invalid))
	require.True(t, errors.Is(err, os.ErrNotExist))
}

// Whatever bytes come, a row has a value for each column, and equal rows have equal records.
func FuzzSource(f *testing.F) {
	f.Add([]byte(rows), false)
	f.Add([]byte(`{"number": "n1", "ward": 1}`), true)
	f.Add([]byte("number,created,completed,ward\n\"a\"b,,,\n\xff,\x00,,"), false)
	f.Fuzz(func(t *testing.T, input []byte, jsonl bool) {
		text := mapping
		if jsonl {
			text = strings.Replace(mapping, "format: csv", "format: jsonl", 1)
		}
		m, err := bulk.ParseMapping([]byte(text))
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "in")
		require.NoError(t, os.WriteFile(file, input, 0o600))
		s, err := m.Open(file)
		if err != nil {
			return
		}
		defer s.Close()
		for {
			row, err := s.Next()
			if err != nil {
				return
			}
			require.Len(t, row.Values, 4)
			record, wrong := m.Record(row)
			require.Equal(t, record == nil, row.Broken != "")
			require.True(t, row.Broken == "" || len(wrong) > 0)
		}
	})
}
