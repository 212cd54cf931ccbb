package killtest

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/app/fleet"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// check asks the journals and files of a tree that has stopped; it returns how many levels were opened.
func check(t *testing.T, f *fleet.Fleet, answers []answer) map[uint32]int {
	t.Helper()
	journals := map[jurisdiction.Code][]journal.Entry{}
	for _, code := range f.Codes() {
		require.NoError(t, app.Verify(t.Context(), app.VerifyOptions{Dir: f.DataDir(code), Topology: filepath.Join(f.KeyDir(), "topology.yaml")}), "verify %s", code)
		entries, err := app.ReadJournal(t.Context(), f.DataDir(code))
		require.NoError(t, err)
		journals[code] = entries
	}
	for _, a := range answers {
		require.Less(t, a.receipt.Number, uint64(len(journals[a.node])), "%s lost entry %d", a.node, a.receipt.Number)
		e := journals[a.node][a.receipt.Number]
		require.Equal(t, uint32(a.kind), e.Kind, "%s entry %d", a.node, e.Number)
		require.Equal(t, a.caseID, caseOf(t, e), "%s entry %d", a.node, e.Number)
		require.Equal(t, a.receipt.RecordedUs, e.RecordedAt, "%s entry %d", a.node, e.Number)
	}
	once(t, journals)
	return levels(t, journals)
}

// once: a case is opened and filed once, however often the request was repeated.
func once(t *testing.T, journals map[jurisdiction.Code][]journal.Entry) {
	t.Helper()
	for code, entries := range journals {
		seen := map[string]uint64{}
		for _, e := range entries {
			if e.Kind != uint32(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED) && e.Kind != uint32(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED) {
				continue
			}
			key := fmt.Sprint(e.Kind, " ", caseOf(t, e))
			before, twice := seen[key]
			require.False(t, twice, "%s: %s stands in entries %d and %d", code, key, before, e.Number)
			seen[key] = e.Number
		}
	}
}

func caseOf(t *testing.T, e journal.Entry) string {
	t.Helper()
	if e.Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED) {
		var m dubanv1.CaseOpened
		require.NoError(t, proto.Unmarshal(e.Payload, &m))
		return m.CaseId
	}
	var m dubanv1.StageRecorded
	require.NoError(t, proto.Unmarshal(e.Payload, &m))
	return m.CaseId
}

type levelKey struct {
	alert        string
	round, level uint32
}

// levels: (alert, round, level) exists once in the whole tree, in the journal of its receiver, and not before the level
// below it was due; where the node below opened none, not before the grace had passed as well.
func levels(t *testing.T, journals map[jurisdiction.Code][]journal.Entry) map[uint32]int {
	t.Helper()
	opened := map[levelKey]*dubanv1.LevelOpened{}
	recorded := map[levelKey]int64{}
	for code, entries := range journals {
		for _, e := range entries {
			if e.Kind != uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED) {
				continue
			}
			m := &dubanv1.LevelOpened{}
			require.NoError(t, proto.Unmarshal(e.Payload, m))
			key := levelKey{m.AlertId, m.Round, m.Level}
			require.NotContains(t, opened, key, "opened twice, the second time by %s", code)
			require.Equal(t, string(code), m.Receiver, "%v stands in another's journal", key)
			opened[key], recorded[key] = m, e.RecordedAt
		}
	}
	perLevel := map[uint32]int{}
	for key, m := range opened {
		perLevel[key.level]++
		require.GreaterOrEqual(t, recorded[key], m.StartUs, "%v opened before it began", key)
		if key.level == 1 {
			continue
		}
		if m.NotOpenedBelow {
			require.GreaterOrEqual(t, recorded[key], m.StartUs+grace.Microseconds(), "%v did not wait for %s", key, m.Below)
			continue
		}
		below, ok := opened[levelKey{key.alert, key.round, key.level - 1}]
		require.True(t, ok, "%v has no level below it", key)
		require.GreaterOrEqual(t, recorded[key], below.DueUs, "%v opened at %s, early", key, clock.Time(recorded[key]))
		require.Equal(t, below.DueUs, m.StartUs, "%v counts from another time", key)
	}
	t.Logf("levels opened: %v", perLevel)
	return perLevel
}
