package killtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/app/fleet"
	"duban.internal/configs"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	city = jurisdiction.Code("120000")
	// A day in 2.9 s: levels go up while processes die, and idempotency keys (72 h) outlive every repetition.
	rate = 30_000
	// A node is up again long before its silence lets a level open.
	grace = 24 * time.Hour
	// leastLoad answers must have been given, or the test has tested nothing.
	leastLoad = 20
	// manyKills take long enough for levels to go up.
	manyKills = 100
)

// base leaves 300 days of published calendar.
var base = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)

func number(t *testing.T, name string, byDefault int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

func TestKill(t *testing.T) {
	kills, seed := number(t, "DUBAN_KILLS", 9), uint64(number(t, "DUBAN_SEED", 1))
	f, codes := startTree(t)
	l := &load{fleet: f, members: codes}
	running, stop := context.WithCancel(t.Context())
	defer stop()
	var loaders errgroup.Group
	for _, code := range f.Codes() {
		loaders.Go(func() error { return l.collect(running, code) })
		loaders.Go(func() error { return l.handle(running, code) })
	}

	started := clock.System().Now()
	counts := killAll(t, f, kills, seed)
	stop()
	require.NoError(t, loaders.Wait())
	t.Logf("%d kills in %s: %v; %d answers", kills, clock.System().Now().Sub(started).Round(time.Second), counts, len(l.answers))
	require.GreaterOrEqual(t, len(l.answers), leastLoad)

	settle(t, f)
	require.NoError(t, f.Close())
	perLevel := check(t, f, l.answers)
	require.Positive(t, perLevel[1], "no alert was opened: the load tested nothing")
	if kills >= manyKills {
		require.Positive(t, perLevel[2], "no level 2 was opened")
		require.Positive(t, perLevel[3], "no level 3 was opened")
	}
}

// startTree puts up a city with two districts of two streets each, every node a process.
func startTree(t *testing.T) (*fleet.Fleet, []topology.Member) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "duban")
	build := exec.Command("go", "build", "-o", binary, "duban.internal/cmd/duban")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	members := pick(t)
	spec := fleet.Spec{
		Dir: filepath.Join(t.TempDir(), "tree"), City: city, Members: members, Binary: binary,
		Clock: clock.Scaled{Epoch: clock.System().Now(), Base: base, Rate: rate},
		Configure: func(c *app.Config) {
			c.Intervals = app.Intervals{
				Checkpoint: 30 * time.Minute, Grace: grace, Skew: 12 * time.Hour, Silence: 72 * time.Hour, Around: 48 * time.Hour, Retry: time.Second,
			}
			c.Log.Level = "warn"
		},
	}
	for _, m := range members {
		spec.Clients = append(spec.Clients, agency(m.Code))
	}
	f, err := fleet.Start(t.Context(), spec)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() }) // a second time is nothing
	for _, m := range members {
		register(t, f, m)
	}
	return f, members
}

func pick(t *testing.T) []topology.Member {
	t.Helper()
	file, err := configs.FS.Open("divisions/divisions.csv")
	require.NoError(t, err)
	defer file.Close()
	tree, err := jurisdiction.Load(file)
	require.NoError(t, err)
	var out []topology.Member
	add := func(d jurisdiction.Division) {
		out = append(out, topology.Member{Code: d.Code, Name: d.Name, Tier: d.Tier, Parent: d.Parent})
	}
	root, ok := tree.Get(city)
	require.True(t, ok)
	add(root)
	for _, d := range tree.Children(city)[:2] {
		add(d)
		for _, s := range tree.Children(d.Code)[:2] {
			add(s)
		}
	}
	return out
}

func agency(code jurisdiction.Code) identity.Identity {
	return identity.Identity{City: city, Kind: identity.Agency, ID: "cg-" + string(code)}
}

// register puts a node's agency, its officer and its legal office on record.
func register(t *testing.T, f *fleet.Fleet, m topology.Member) {
	t.Helper()
	conn, err := f.Dial(m.Code, f.Operator(m.Code))
	require.NoError(t, err)
	defer conn.Close()
	registry := dubanv1.NewRegistryServiceClient(conn)
	id := agency(m.Code).ID
	_, err = registry.RegisterAgency(t.Context(), &dubanv1.RegisterAgencyRequest{Agency: &dubanv1.Agency{
		Id: id, Name: m.Name, Jurisdiction: string(m.Code), System: "urban-management", Items: []string{"KILL-1"},
	}})
	require.NoError(t, err)
	_, err = registry.RegisterOfficer(t.Context(), &dubanv1.RegisterOfficerRequest{Officer: &dubanv1.Officer{
		Id: id + "-1", Name: id, Agency: id, Certificate: "KILL-" + id,
	}})
	require.NoError(t, err)
	if m.Tier == jurisdiction.Street {
		return
	}
	_, err = registry.RegisterOffice(t.Context(), &dubanv1.RegisterOfficeRequest{Office: &dubanv1.Office{
		Role: "legal_office", Jurisdiction: string(m.Code), Name: m.Name,
	}})
	require.NoError(t, err)
}

// killAll kills in the three tiers at once, a third of the kills in each, and counts them by tier.
func killAll(t *testing.T, f *fleet.Fleet, kills int, seed uint64) map[jurisdiction.Tier]int {
	t.Helper()
	byTier := map[jurisdiction.Tier][]jurisdiction.Code{}
	for _, n := range f.Tree().All() {
		byTier[n.Tier] = append(byTier[n.Tier], n.Code)
	}
	counts := map[jurisdiction.Tier]int{}
	var mu sync.Mutex
	var g errgroup.Group
	for i, tier := range []jurisdiction.Tier{jurisdiction.City, jurisdiction.District, jurisdiction.Street} {
		share := kills / 3
		if i < kills%3 {
			share++
		}
		dice := rand.New(rand.NewPCG(seed, uint64(i)))
		g.Go(func() error {
			for range share {
				code := byTier[tier][dice.IntN(len(byTier[tier]))]
				pause := time.Duration(50+dice.IntN(700)) * time.Millisecond
				if err := clock.Pause(t.Context(), clock.System(), pause); err != nil {
					return err
				}
				if err := f.Kill(code); err != nil {
					return err
				}
				if err := f.Restart(t.Context(), code); err != nil {
					return err
				}
				mu.Lock()
				counts[tier]++
				mu.Unlock()
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	return counts
}

// settle waits until every parent has everything of its children: as long as it takes on this machine, but no longer than
// a minute without a step.
func settle(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	for _, n := range f.Tree().All() {
		if n.Parent == "" {
			continue
		}
		conn, err := f.Dial(n.Code, f.Operator(n.Code))
		require.NoError(t, err)
		defer conn.Close()
		client := dubanv1.NewNodeServiceClient(conn)
		for there, last := false, ""; !there; {
			if !assert.Eventually(t, func() bool {
				status, err := client.GetStatus(t.Context(), &dubanv1.GetStatusRequest{})
				if err != nil {
					return false
				}
				now := ""
				there = true
				for _, j := range status.Journals {
					there = there && j.Acknowledged >= j.Size
					now += fmt.Sprintf("%s: %d of %d acknowledged %s; ", j.Code, j.Acknowledged, j.Size, j.Refused)
				}
				stepped := now+status.ParentProblem != last
				last = now + status.ParentProblem
				return there || stepped
			}, time.Minute, 500*time.Millisecond) {
				t.Fatalf("%s does not bring everything to its parent: %s", n.Code, last)
			}
		}
	}
}
