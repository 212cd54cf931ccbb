package app_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"duban.internal/cmd/duban/app"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/rpc"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	city     = jurisdiction.Code("120000")
	district = jurisdiction.Code("120116")
	street   = jurisdiction.Code("120116013")
)

// A node that is closed leaves no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys writes the keys of a city, a district and a street.
func keys(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	_, err := topology.Generate(dir, topology.Spec{City: city, Now: clock.System().Now(), Members: []topology.Member{
		{Code: city, Name: "天津市", Tier: jurisdiction.City},
		{Code: district, Name: "滨海新区", Tier: jurisdiction.District, Parent: city},
		{Code: street, Name: "新村街道", Tier: jurisdiction.Street, Parent: district},
	}})
	require.NoError(t, err)
	return dir
}

func config(keys string, code jurisdiction.Code, data string) app.Config {
	return app.Config{
		Code: string(code), Data: data, Listen: "127.0.0.1:0", Identity: topology.NodeFolder(keys, code),
		Metrics: app.Metrics{Listen: "127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler),
		Intervals: app.Intervals{Checkpoint: 50 * time.Millisecond},
	}
}

// start runs a node until the test ends or stop is called.
func start(t *testing.T, c app.Config) (n *app.Node, stop func()) {
	t.Helper()
	n, err := app.New(t.Context(), c)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, n.Close())
	}
	t.Cleanup(stop)
	return n, stop
}

// status asks a node as its operator.
func status(t *testing.T, keys string, code jurisdiction.Code, address string) *dubanv1.GetStatusResponse {
	t.Helper()
	folder := topology.ClientFolder(keys, identity.Identity{City: city, Kind: identity.Operator, Code: code})
	pair, err := topology.ClientFiles(folder).Load()
	require.NoError(t, err)
	conn, err := rpc.Dial(address, pair.Client(identity.Identity{City: city, Kind: identity.Node, Code: code}))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	answer, err := dubanv1.NewNodeServiceClient(conn).GetStatus(ctx, &dubanv1.GetStatusRequest{})
	require.NoError(t, err)
	return answer
}

// A street under a district under a city: what the street records arrives at the city, and all three tell the same roots.
func TestThreeTiers(t *testing.T) {
	keys := keys(t)
	top, _ := start(t, config(keys, city, t.TempDir()))
	middle := config(keys, district, t.TempDir())
	middle.Parent = top.Addr()
	mid, _ := start(t, middle)
	low := config(keys, street, t.TempDir())
	low.Parent = mid.Addr()
	leaf, _ := start(t, low)

	own := status(t, keys, street, leaf.Addr())
	require.Equal(t, "新村街道", own.Name)
	require.Equal(t, "street", own.Tier)
	require.True(t, own.Leader)
	require.Len(t, own.Journals, 1)
	require.True(t, strings.HasPrefix(own.Profile, "tianjin "))
	// Name, profile and calendar, and what the district let it know: its own profile and calendar.
	require.Eventually(t, func() bool {
		own = status(t, keys, street, leaf.Addr())
		j := own.Journals[0]
		if !own.ParentConnected || j.Size < 4 || j.Acknowledged != j.Size {
			return false
		}
		for _, above := range status(t, keys, city, top.Addr()).Journals {
			if above.Code == string(street) {
				return above.Size == j.Size && above.CheckpointUs > 0 && bytes.Equal(above.Root, j.Root) && bytes.Equal(above.Journal, j.Journal)
			}
		}
		return false
	}, 20*time.Second, 20*time.Millisecond)

	// The street knows what both nodes above have witnessed, and what they sent it.
	require.Eventually(t, func() bool {
		own = status(t, keys, street, leaf.Addr())
		return len(own.Ancestors) == 2 && own.Ancestors[0].WitnessedSize == own.Journals[0].Size && own.Ancestors[1].WitnessedSize == own.Journals[0].Size
	}, 20*time.Second, 20*time.Millisecond)
	parent, grandparent := own.Ancestors[0], own.Ancestors[1]
	require.Equal(t, string(district), parent.Code)
	require.EqualValues(t, 2, parent.Letters, "profile and calendar")
	require.Equal(t, string(city), grandparent.Code)
	require.Zero(t, grandparent.Letters)
	for _, a := range own.Ancestors {
		require.False(t, a.Direct)
		require.Empty(t, a.Refused)
		require.NotZero(t, a.WitnessedUs)
		require.NotZero(t, a.HeardUs)
	}
}

// A node that is started again with the same configuration records nothing new.
func TestStartedAgain(t *testing.T) {
	keys, data := keys(t), t.TempDir()
	n, stop := start(t, config(keys, city, data))
	var first *dubanv1.JournalStatus
	require.Eventually(t, func() bool {
		first = status(t, keys, city, n.Addr()).Journals[0]
		return first.Size == 6
	}, 10*time.Second, 10*time.Millisecond, "name, profile, calendar, the keys of two journals below, and what is for the district")
	stop()
	n, _ = start(t, config(keys, city, data))
	again := status(t, keys, city, n.Addr()).Journals[0]
	require.Equal(t, first.Root, again.Root)
	require.Equal(t, first.Size, again.Size)
}

func TestPages(t *testing.T) {
	keys := keys(t)
	n, stop := start(t, config(keys, district, t.TempDir()))
	for page, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ok", "/metrics": `duban_journal_entries{code="120116"} 3`,
	} {
		answer, err := http.Get("http://" + n.MetricsAddr() + page)
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode, page)
		require.Contains(t, string(body), want)
	}
	stop()
	_, err := net.DialTimeout("tcp", n.Addr(), time.Second)
	require.Error(t, err, "a stopped node listens no more")
}

// What is wrong with a configuration is said before anything is written.
func TestConfigurationsThatCannotBeUsed(t *testing.T) {
	keys := keys(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	for name, c := range map[string]struct {
		change func(*app.Config)
		says   string
	}{
		"another's keys":      {func(c *app.Config) { c.Identity = topology.NodeFolder(keys, street) }, "identity"},
		"no keys":             {func(c *app.Config) { c.Identity = keys; c.Topology = filepath.Join(keys, "topology.yaml") }, "cert"},
		"no topology":         {func(c *app.Config) { c.Topology = "none.yaml" }, "topology"},
		"not in the list":     {func(c *app.Config) { c.Divisions = []string{"chicago"} }, "code"},
		"port taken":          {func(c *app.Config) { c.Listen = busy.Addr().String() }, "listen"},
		"metrics port taken":  {func(c *app.Config) { c.Metrics.Listen = busy.Addr().String() }, "metrics.listen"},
		"calendar of history": {func(c *app.Config) { c.Calendar = "plain-2000-2015" }, "history: true"},
		"no such profile":     {func(c *app.Config) { c.Profile = "none" }, "chicago, tianjin"},
		"no such code":        {func(c *app.Config) { c.Code = "999999" }, "999999"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(keys, district, t.TempDir())
			c.change(&cfg)
			n, err := app.New(t.Context(), cfg)
			require.Nil(t, n)
			require.True(t, fault.Is(err, fault.Invalid), "%v", err)
			require.ErrorContains(t, err, c.says)
		})
	}
}

// A data folder belongs to one jurisdiction for ever.
func TestAnothersDataFolder(t *testing.T) {
	keys, data := keys(t), t.TempDir()
	_, stop := start(t, config(keys, district, data))
	stop()
	_, err := app.New(t.Context(), config(keys, street, data))
	require.Error(t, err)
	require.NotEqual(t, fault.Internal, fault.Of(err), "%v", err)
}

// A folder is used by one process at a time.
func TestFolderInUse(t *testing.T) {
	keys, data := keys(t), t.TempDir()
	start(t, config(keys, district, data))
	_, err := app.New(t.Context(), config(keys, district, data))
	require.Error(t, err)
}

// A node that is stopped doesn't wait for streams that its children and watchers keep open.
func TestStoppedWithStreamsOpen(t *testing.T) {
	keys := keys(t)
	top, stopTop := start(t, config(keys, city, t.TempDir()))
	low := config(keys, district, t.TempDir())
	low.Parent = top.Addr()
	leaf, _ := start(t, low)
	require.Eventually(t, func() bool { return status(t, keys, district, leaf.Addr()).ParentConnected }, 10*time.Second, 10*time.Millisecond)
	watch, err := dubanv1.NewAlertServiceClient(operator(t, keys, city, top.Addr())).WatchAlerts(t.Context(), &dubanv1.WatchAlertsRequest{})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := watch.Recv()
		ended <- err
	}()
	before := clock.System().Steady()
	stopTop()
	require.Less(t, clock.System().Steady()-before, 3*time.Second)
	require.Error(t, <-ended)
}
