package registry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"duban.internal/configs"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/registry"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	"duban.internal/node/workday"
)

// Each entry is judged by what its journal had adopted before it, also after something else was adopted.
func TestJudged(t *testing.T) {
	fold := registry.Fold()
	s, err := embedded.Open(t.Context(), embedded.Config{
		Dir: t.TempDir(), Journal: journal.NewID(), Folds: []*store.Fold{&fold},
		Clock: clock.NewManual(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)),
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	_, err = s.Lease(t.Context())
	require.NoError(t, err)
	load := func(name string) *profile.Profile {
		p, err := profile.Load(configs.FS, "profiles/"+name)
		require.NoError(t, err)
		return p
	}
	content, err := configs.FS.ReadFile("calendars/cn-holidays.csv")
	require.NoError(t, err)
	calendar, err := workday.Parse(content)
	require.NoError(t, err)
	tianjin, chicago := load("tianjin"), load("chicago")
	r := registry.New(s)
	boot := func(p *profile.Profile) {
		t.Helper()
		require.NoError(t, registry.Bootstrap(context.Background(), s, registry.Start{
			Division: jurisdiction.Division{Code: "120000", Name: "天津市", Tier: jurisdiction.City}, Profile: p, Calendar: calendar,
		}))
	}
	judged := func(number uint64, want *profile.Profile) {
		t.Helper()
		for range 2 { // looked up, then remembered
			p, c, err := r.Judged(t.Context(), s.Own(), number)
			require.NoError(t, err)
			require.Equal(t, want.Hash(), p.Hash(), "entry %d", number)
			require.Equal(t, calendar.Hash(), c.Hash())
		}
	}
	_, _, err = r.Present(t.Context())
	require.Equal(t, fault.Precondition, fault.Of(err))
	boot(tianjin) // entries 0, 1 and 2
	judged(3, tianjin)
	judged(100, tianjin)
	boot(chicago) // entry 3
	judged(3, tianjin)
	judged(4, chicago)
	judged(100, chicago)
	boot(tianjin) // entry 4
	judged(3, tianjin)
	judged(4, chicago)
	judged(5, tianjin)
	info, ok := s.Journal(s.Own())
	require.True(t, ok)
	require.EqualValues(t, 5, info.Size)
	for _, number := range []uint64{0, 1, 2} {
		_, _, err := r.Judged(t.Context(), s.Own(), number)
		require.Equal(t, fault.Precondition, fault.Of(err), "entry %d came before both", number)
	}
	_, _, err = r.Judged(t.Context(), journal.NewID(), 1)
	require.Equal(t, fault.NotFound, fault.Of(err))
	d, ok, err := r.Jurisdiction(t.Context(), s.Own())
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "天津市", d.Name)
	ids, err := r.JournalsOf(t.Context(), "120000")
	require.NoError(t, err)
	require.Equal(t, []journal.ID{s.Own()}, ids)
}
