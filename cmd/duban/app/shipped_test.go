package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"duban.internal/node/fault"
)

func TestShippedFilesLoadByName(t *testing.T) {
	tree, err := LoadDivisions([]string{"divisions", "chicago"})
	require.NoError(t, err)
	_, ok := tree.Get("990100000")
	require.True(t, ok)
	for _, name := range []string{"tianjin", "chicago", "../../../configs/profiles/tianjin"} {
		_, err := loadProfile(name)
		require.NoError(t, err)
	}
}

func TestNamesThatDoNotShipAreNamedWithThoseThatDo(t *testing.T) {
	_, err := LoadDivisions([]string{"beijing"})
	require.True(t, fault.Is(err, fault.Invalid))
	require.ErrorContains(t, err, "chicago, divisions")
	_, err = loadProfile("beijing")
	require.ErrorContains(t, err, "chicago, tianjin")
	_, err = loadCalendar(Config{Calendar: "lunar"}, time.Now())
	require.ErrorContains(t, err, "cn-holidays, plain-2000-2015")
	_, err = loadProfile("./none")
	require.True(t, fault.Is(err, fault.Invalid))
	_, err = LoadDivisions([]string{"./none.csv"})
	require.True(t, fault.Is(err, fault.Invalid))
}

// The current year missing is an error, but for a node of history.
func TestCalendarWithoutThisYear(t *testing.T) {
	now := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	_, err := loadCalendar(Config{Calendar: "cn-holidays"}, now)
	require.NoError(t, err)
	_, err = loadCalendar(Config{Calendar: "plain-2000-2015"}, now)
	require.ErrorContains(t, err, "covers 2000 to 2015 and the node's clock shows 2026")
	_, err = loadCalendar(Config{Calendar: "plain-2000-2015", History: true}, now)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "calendar.csv")
	require.NoError(t, os.WriteFile(file, []byte("no calendar"), 0o600))
	_, err = loadCalendar(Config{Calendar: file}, now)
	require.True(t, fault.Is(err, fault.Invalid))
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"512": 512, "4KiB": 4 * KiB, "64MiB": 64 * MiB, "1GiB": GiB} {
		var s Size
		require.NoError(t, s.UnmarshalText([]byte(text)))
		require.Equal(t, want, s)
		require.Equal(t, text, s.String())
	}
	for _, text := range []string{"", "-1", "1MB", "9999999999GiB", "1.5GiB"} {
		require.Error(t, new(Size).UnmarshalText([]byte(text)), text)
	}
}
