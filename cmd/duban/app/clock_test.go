package app_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"duban.internal/cmd/duban/app"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/rpc"
	dubanv1 "duban.internal/proto/duban/v1"
)

// operator connects to a node as its operator.
func operator(t *testing.T, keys string, code jurisdiction.Code, address string) *grpc.ClientConn {
	t.Helper()
	who := identity.Identity{City: city, Kind: identity.Operator, Code: code}
	pair, err := topology.ClientFiles(topology.ClientFolder(keys, who)).Load()
	require.NoError(t, err)
	conn, err := rpc.Dial(address, pair.Client(identity.Identity{City: city, Kind: identity.Node, Code: code}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// page is what one of the pages for machines says.
func page(t *testing.T, n *app.Node, path string) (int, string) {
	t.Helper()
	answer, err := http.Get("http://" + n.MetricsAddr() + path)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

// A node whose clock is turned records nothing until it is put right, or until people put on record that it is right.
func TestClockThatIsTurned(t *testing.T) {
	keys, data := keys(t), t.TempDir()
	m := clock.NewManual(clock.System().Now())
	c := config(keys, city, data)
	c.Time = m
	n, stop := start(t, c)
	conn := operator(t, keys, city, n.Addr())
	node := dubanv1.NewNodeServiceClient(conn)
	number := 0
	record := func() error {
		number++
		_, err := dubanv1.NewRegistryServiceClient(conn).RegisterAgency(t.Context(), &dubanv1.RegisterAgencyRequest{
			Agency: &dubanv1.Agency{Id: fmt.Sprint("a", number), Name: "a", Jurisdiction: string(city), System: "market"},
		})
		return err
	}
	accept := func() error {
		_, err := node.AcceptClock(t.Context(), &dubanv1.AcceptClockRequest{Reason: "compared with the time signal", AcceptedBy: "operator"})
		return err
	}
	believed := func(want bool) {
		t.Helper()
		status, err := node.GetStatus(t.Context(), &dubanv1.GetStatusRequest{})
		require.NoError(t, err)
		code, said := page(t, n, "/readyz")
		require.Equal(t, want, status.ClockStopped == "", status.ClockStopped)
		require.Equal(t, want, code == http.StatusOK, said)
		err = record()
		if want {
			require.NoError(t, err)
			return
		}
		require.True(t, fault.Is(err, fault.Precondition), "%v", err)
		require.ErrorContains(t, err, "duban clock accept")
		require.Contains(t, said, status.ClockStopped)
	}
	believed(true)
	m.Advance(time.Hour)
	believed(true)
	require.True(t, fault.Is(accept(), fault.Precondition), "there is nothing to accept")

	m.Jump(2 * time.Minute)
	believed(false)
	m.Jump(-2 * time.Minute)
	believed(true)

	m.Jump(2 * time.Minute)
	_, err := node.AcceptClock(t.Context(), &dubanv1.AcceptClockRequest{})
	require.True(t, fault.Is(err, fault.Invalid))
	require.Len(t, fault.Fields(err), 2)
	require.NoError(t, accept())
	believed(true)

	// Turned back while it was down. The configuration has changed as well: that waits.
	stop()
	m = clock.NewManual(m.Now().Add(-24 * time.Hour))
	c.Time, c.Profile = m, "chicago"
	n, stop = start(t, c)
	conn = operator(t, keys, city, n.Addr())
	node = dubanv1.NewNodeServiceClient(conn)
	believed(false)
	require.Contains(t, status(t, keys, city, n.Addr()).Profile, "tianjin")
	require.NoError(t, accept())
	believed(true)
	m.Advance(time.Second)
	require.Eventually(t, func() bool { return status(t, keys, city, n.Addr()).Profile[:7] == "chicago" }, 10*time.Second, 10*time.Millisecond)

	// What was accepted is on record.
	stop()
	c.Time = clock.NewManual(m.Now())
	n, stop = start(t, c)
	conn = operator(t, keys, city, n.Addr())
	node = dubanv1.NewNodeServiceClient(conn)
	believed(true)
	stop()
	entries, err := app.ReadJournal(t.Context(), data)
	require.NoError(t, err)
	accepted := 0
	for _, e := range entries {
		if e.Kind == uint32(dubanv1.EntryKind_ENTRY_KIND_CLOCK_ACCEPTED) {
			accepted++
			require.Equal(t, "operator:120000", e.Actor)
		}
	}
	require.Equal(t, 2, accepted)
}

// A node whose clock runs ahead of its parent's finds out when it connects, and records nothing from then on.
func TestClockAheadOfTheParents(t *testing.T) {
	keys := keys(t)
	top, _ := start(t, config(keys, city, t.TempDir()))
	c := config(keys, district, t.TempDir())
	c.Parent, c.Time = top.Addr(), clock.Offset{Clock: clock.System(), D: time.Hour}
	n, _ := start(t, c)
	require.Eventually(t, func() bool { return status(t, keys, district, n.Addr()).ClockStopped != "" }, 20*time.Second, 20*time.Millisecond)
	s := status(t, keys, district, n.Addr())
	require.Contains(t, s.ClockStopped, "ahead of the parent's")
	require.InDelta(t, -time.Hour.Microseconds(), s.ParentSkewUs, float64(10*time.Second.Microseconds()))
	conn := operator(t, keys, district, n.Addr())
	record := func() error {
		_, err := dubanv1.NewRegistryServiceClient(conn).RegisterAgency(t.Context(), &dubanv1.RegisterAgencyRequest{
			Agency: &dubanv1.Agency{Id: "a", Name: "a", Jurisdiction: string(district), System: "market"}})
		return err
	}
	require.True(t, fault.Is(record(), fault.Precondition))
	_, err := dubanv1.NewNodeServiceClient(conn).AcceptClock(t.Context(), &dubanv1.AcceptClockRequest{Reason: "the city's is wrong", AcceptedBy: "operator"})
	require.NoError(t, err)
	require.NoError(t, record())
	require.Empty(t, status(t, keys, district, n.Addr()).ClockStopped)
}
