package show_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"duban.internal/cmd/duban/show"
	"duban.internal/node/clock"
	dubanv1 "duban.internal/proto/duban/v1"
)

func TestTableAlignsWideText(t *testing.T) {
	table := show.NewTable("code", "name", ">entries")
	table.Row("120116013", "新村街道", 12)
	table.Row("120000", "Tianjin", uint64(1234))
	table.Row("1", "", 5)
	var out bytes.Buffer
	require.NoError(t, table.Write(&out))
	require.Equal(t, ""+
		"code       name      entries\n"+
		"120116013  新村街道       12\n"+
		"120000     Tianjin      1234\n"+
		"1          -               5\n", out.String())
	require.Equal(t, 3, table.Len())
}

func TestCells(t *testing.T) {
	for s, want := range map[string]int{"": 0, "a": 1, "督办": 4, "ｅ": 2, "é": 1, "e\u0301": 1, "，": 2, "…": 1} {
		require.Equal(t, want, show.Cells(s), "%q", s)
	}
}

func TestTimesAreShanghais(t *testing.T) {
	require.Equal(t, "2026-03-02 08:00:00", show.Time(1772409600_000000))
	require.Empty(t, show.Time(0))
	require.Equal(t, "-1.5s", show.Skew(-1_500_000))
}

func TestJSONOfMessages(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, show.Line(&out, &dubanv1.CollectRequest{RecordId: "r", OccurredUs: 1<<53 - 1, Record: &dubanv1.CollectRequest_Stage{
		Stage: &dubanv1.StageRecorded{CaseId: "c", Fields: map[string]string{"b": "2", "a": "<1>"}, Documents: []*dubanv1.Document{{Sha256: []byte{0xab}}}},
	}}))
	require.JSONEq(t, `{"record_id":"r","occurred_us":9007199254740991,"stage":{"case_id":"c","stage":"","completed_us":0,"officers":[],
		"handler":"","documents":[{"name":"","code":"","sha256":"ab"}],"fields":{"a":"<1>","b":"2"},"late_reason":""}}`, out.String())
	out.Reset()
	require.NoError(t, show.JSON(&out, &dubanv1.AlertFigure{Level: 2, State: dubanv1.LevelState_LEVEL_STATE_OPEN, Count: 3}))
	require.Equal(t, "{\n  \"level\": 2,\n  \"state\": \"LEVEL_STATE_OPEN\",\n  \"count\": 3\n}\n", out.String())
}

func TestProgressSaysNothingToAFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "err"))
	require.NoError(t, err)
	defer f.Close()
	p := show.NewProgress(f, clock.System())
	p.Say("%d rows", 5)
	p.Done()
	info, err := f.Stat()
	require.NoError(t, err)
	require.Zero(t, info.Size())
}
