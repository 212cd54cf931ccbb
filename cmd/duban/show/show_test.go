package show_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
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

// What others recorded can't do anything to a terminal.
func TestNothingFromOutsideIsObeyed(t *testing.T) {
	const evil = "a\x1b[2Jb\x9bc\u009b1md\u202ee\x7ff\ng\u200bh\U000e0001督\u200d办"
	require.Equal(t, "a\ufffd[2Jb\ufffdc\ufffd1md\ufffde\ufffdf g\ufffdh\ufffd督\u200d办", show.OneLine(evil))
	require.Equal(t, "a\n\tb", show.Clean("a\n\tb"))
	table := show.NewTable("x")
	table.Row(evil)
	var out bytes.Buffer
	require.NoError(t, table.Write(&out))
	require.Equal(t, "x\n"+show.OneLine(evil)+"\n", out.String())

	const valid = "a\x1b[2J\u009b1m\u202e\x7f\n\u200b\U000e0001"
	out.Reset()
	require.NoError(t, show.JSON(&out, map[string]string{valid: valid}))
	require.Equal(t, 1, strings.Count(out.String(), "a"+`\u001b[2J\u009b1m\u202e\u007f\n\u200b\udb40\udc01": "`))
	require.NotContains(t, strings.TrimSpace(strings.ReplaceAll(out.String(), "\n", "")), "\u202e")
	var back map[string]string
	require.NoError(t, json.Unmarshal(out.Bytes(), &back))
	require.Equal(t, map[string]string{valid: valid}, back)
}

// A column that no row fills takes no room; the heading of an empty table stays whole.
func TestEmptyColumnsAreLeftOut(t *testing.T) {
	table := show.NewTable("a", "b", ">c")
	var out bytes.Buffer
	require.NoError(t, table.Write(&out))
	require.Equal(t, "a  b  c\n", out.String())
	table.Row("", 1, "")
	table.Row("", 22, "")
	out.Reset()
	require.NoError(t, table.Write(&out))
	require.Equal(t, "b\n1\n22\n", out.String())
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
