package app

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"duban.internal/federation"
	"duban.internal/federation/uplink"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// ledger notes what reaches the store.
type ledger struct {
	store.Store
	follows  bool
	appended []store.Command
	recorded int64
	stamped  int
}

func (l *ledger) Own() journal.ID        { return journal.ID{1} }
func (l *ledger) Leader() (string, bool) { return "", !l.follows }
func (l *ledger) Journal(journal.ID) (store.Info, bool) {
	return store.Info{Size: 7, RecordedAt: l.recorded}, true
}
func (l *ledger) Stamp(context.Context) (uint64, int64, error) {
	l.stamped++
	return 7, l.recorded + 5, nil
}

func (l *ledger) Append(_ context.Context, commands ...store.Command) ([]store.Result, []error) {
	results := make([]store.Result, len(commands))
	for i, c := range commands {
		l.appended = append(l.appended, c)
		results[i] = store.Result{First: uint64(len(l.appended)), Count: len(c.Entries)}
	}
	return results, make([]error, len(commands))
}

func command(kinds ...dubanv1.EntryKind) store.Command {
	var c store.Command
	for _, k := range kinds {
		c.Entries = append(c.Entries, store.Proposal{Kind: uint32(k)})
	}
	return c
}

const (
	opened    = dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED
	withdrawn = dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN
)

// A kind is written only where the parent has announced it; a command that may not be written fails alone.
func TestKindsThatTheParentKnows(t *testing.T) {
	for name, c := range map[string]struct {
		root, follows bool
		announced     []uint32
		refused       []bool
	}{
		"root":                {root: true, refused: []bool{false, false, false, false}},
		"nothing announced":   {refused: []bool{false, true, false, true}},
		"an older parent":     {announced: []uint32{uint32(opened)}, refused: []bool{false, true, false, true}},
		"a parent like us":    {announced: federation.Kinds(), refused: []bool{false, false, false, false}},
		"left to the leader":  {follows: true, refused: []bool{false, false, false, false}},
		"not even the oldest": {announced: []uint32{uint32(withdrawn)}, refused: []bool{true, false, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			l, m := &ledger{follows: c.follows}, clock.NewManual(clock.Time(1e15))
			r := &recorder{Store: l, clock: m, guard: clock.NewGuard(time.Minute, clock.Accepted{}), root: c.root}
			r.listen(func() uplink.Status { return uplink.Status{Kinds: c.announced} })
			results, errs := r.Append(t.Context(), command(opened), command(withdrawn), command(), command(opened, withdrawn))
			require.Len(t, results, 4)
			passed := 0
			for i, refused := range c.refused {
				if refused {
					require.True(t, fault.Is(errs[i], fault.Precondition), "command %d: %v", i, errs[i])
					require.Zero(t, results[i])
					continue
				}
				passed++
				require.NoError(t, errs[i], "command %d", i)
				require.EqualValues(t, passed, results[i].First, "command %d has another's result", i)
			}
			require.Len(t, l.appended, passed)
		})
	}
}

// The kinds that every version knows are those of the first release, for ever.
func TestFirstKinds(t *testing.T) {
	content, err := os.ReadFile("../../../proto/duban/v1/testdata/released.binpb")
	require.NoError(t, err)
	var released descriptorpb.FileDescriptorSet
	require.NoError(t, proto.Unmarshal(content, &released))
	known := map[int32]bool{}
	for _, f := range released.GetFile() {
		for _, e := range f.GetEnumType() {
			if e.GetName() == "EntryKind" {
				for _, v := range e.GetValue() {
					known[v.GetNumber()] = true
				}
			}
		}
	}
	require.Len(t, firstKinds, 19)
	for _, k := range firstKinds {
		require.True(t, known[int32(k)], k)
	}
}

// While the clock is not believed no checkpoint may state what it shows, and only what records nothing goes through.
func TestNothingIsRecordedByAWrongClock(t *testing.T) {
	start := clock.Time(1e15)
	l, m := &ledger{recorded: 1e15 - 100}, clock.NewManual(start)
	r := &recorder{Store: l, clock: m, guard: clock.NewGuard(time.Minute, clock.Accepted{}), root: true, latest: 1e15 - 50}
	_, at, err := r.Stamp(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1e15-95, at)
	m.Jump(time.Hour)
	size, at, err := r.Stamp(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, size)
	require.EqualValues(t, 1e15-50, at, "the latest time that was promised")
	require.Equal(t, 1, l.stamped)
	_, errs := r.Append(t.Context(), command(opened), command())
	require.True(t, fault.Is(errs[0], fault.Precondition))
	require.ErrorContains(t, errs[0], "duban clock accept")
	require.ErrorContains(t, errs[0], "jumped ahead by 1h0m0s")
	require.NoError(t, errs[1])

	// A parent whose clock shows the same confirms a jump; one whose clock shows less stops a clock that never jumped.
	heard := clock.Micros(m.Now())
	r.listen(func() uplink.Status { return uplink.Status{Measured: heard} })
	_, errs = r.Append(t.Context(), command(opened))
	require.NoError(t, errs[0])
	r.listen(func() uplink.Status { return uplink.Status{Measured: heard + 1, Skew: -time.Hour.Microseconds()} })
	_, errs = r.Append(t.Context(), command(opened))
	require.ErrorContains(t, errs[0], "ahead of the parent's")
}
