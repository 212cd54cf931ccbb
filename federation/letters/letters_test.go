package letters_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation/letters"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

const plenty = 4 << 20

// Whom an entry concerns.
func TestAddressees(t *testing.T) {
	shared := tree(t)
	for _, c := range []struct {
		name   string
		by     jurisdiction.Code
		write  func(n *node)
		wanted map[jurisdiction.Code]int
	}{
		{"a level of a street's case at its district", district, func(n *node) { n.opens(t, "a", 2, street) }, map[jurisdiction.Code]int{street: 1}},
		{"the third level at the city passed the district", city, func(n *node) { n.opens(t, "a", 3, street) }, map[jurisdiction.Code]int{street: 1, district: 1}},
		{"the second level at the city passed nobody", city, func(n *node) { n.opens(t, "a", 2, street) }, map[jurisdiction.Code]int{street: 1}},
		{"an own case", city, func(n *node) { n.opens(t, "a", 1, city) }, nil},
		{"a case that is not below", other, func(n *node) { n.opens(t, "a", 2, street) }, nil},
		{"what becomes of a level", city, func(n *node) {
			n.opens(t, "a", 3, street)
			n.write(t, &dubanv1.LevelHandled{AlertId: "a", Round: 1, Level: 3}, &dubanv1.LevelWithdrawn{AlertId: "a", Level: 3})
			n.address(t)
			n.write(t, &dubanv1.LevelReopened{AlertId: "a", Level: 3}, &dubanv1.LevelDisputed{AlertId: "a", Level: 2}, &dubanv1.LevelDisputed{AlertId: "a", Level: 1})
			n.write(t, &dubanv1.LevelHandled{AlertId: "b", Round: 1, Level: 3})
		}, map[jurisdiction.Code]int{street: 6, district: 5}},
		{"a profile and a calendar", city, func(n *node) {
			n.write(t, &dubanv1.ProfileAdopted{Name: "p"}, &dubanv1.CalendarAdopted{Name: "c"}, &dubanv1.ExplanationGiven{})
		}, map[jurisdiction.Code]int{district: 2, other: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(shared)
			n := w.nodes[c.by]
			c.write(n)
			n.address(t)
			got := map[jurisdiction.Code]int{}
			for _, e := range n.entries(t, dubanv1.EntryKind_ENTRY_KIND_ADDRESSED) {
				var m dubanv1.Addressed
				require.NoError(t, proto.Unmarshal(e.Payload, &m))
				code := jurisdiction.Code(m.GetAddressee())
				require.EqualValues(t, got[code], m.GetNumber())
				got[code] += len(m.GetEntries())
			}
			require.Len(t, got, len(c.wanted))
			for code, n := range c.wanted {
				require.Equal(t, n, got[code], code)
			}
		})
	}
}

// A dispute about an alert that this node has no level of is addressed by what app knows of it.
func TestDisputeOfAnUnknownAlert(t *testing.T) {
	w := newWorld(tree(t))
	n := w.nodes[district]
	runner, err := letters.NewRunner(letters.Config{Code: district, Tree: w.Tree, Case: func(_ context.Context, alert string) (journal.ID, bool, error) {
		return w.ID(street), alert == "a", nil
	}}, n.store, w.clock)
	require.NoError(t, err)
	n.runner = runner
	n.write(t, &dubanv1.LevelDisputed{AlertId: "a", Level: 1}, &dubanv1.LevelDisputed{AlertId: "b", Level: 1}, &dubanv1.LevelHandled{AlertId: "a", Round: 2, Level: 2})
	n.down(t, w.nodes[street], plenty)
	require.Equal(t, []uint64{0, 2}, w.nodes[street].got(t, district))
}

// The city's word reaches a street through its district, and each has exactly what is addressed to it.
func TestDown(t *testing.T) {
	w := newWorld(tree(t))
	c, d, s, s2 := w.nodes[city], w.nodes[district], w.nodes[street], w.nodes[second]
	c.write(t, &dubanv1.ProfileAdopted{Name: "p", Files: []*dubanv1.File{{Content: make([]byte, 3<<20)}}})
	c.opens(t, "a", 3, street)
	c.opens(t, "b", 3, second)
	c.down(t, d, plenty)
	c.opens(t, "c", 3, street)
	d.opens(t, "d", 2, street)
	c.down(t, d, 1)
	require.Zero(t, c.down(t, d, plenty), "everything is there")
	d.down(t, s, plenty)
	d.down(t, s2, plenty)
	c.down(t, w.nodes[other], plenty)
	require.Equal(t, []uint64{0, 1, 2, 8}, d.got(t, city), "the profile and three openings; Addressed entries lie between")
	require.Equal(t, []uint64{1, 8}, s.got(t, city))
	require.Equal(t, []uint64{2}, s2.got(t, city))
	require.Len(t, s.got(t, district), 1)
	require.Empty(t, s2.got(t, district))
	require.Equal(t, []uint64{0}, w.nodes[other].got(t, city))
	for _, n := range w.nodes {
		require.Empty(t, n.evidence(t))
	}
	st, err := s.box.Status(t.Context())
	require.NoError(t, err)
	require.Len(t, st, 2)
	require.Equal(t, district, st[0].Code)
	require.EqualValues(t, 2, st[1].Received)
	require.NotZero(t, st[1].Size)
	require.Greater(t, st[1].Time, start.UnixMicro())
}

// A street that dialed the city while its district was off goes on through the district afterwards, without a double; its
// kept checkpoint lies on the way that the district leads it.
func TestAroundADeadMiddle(t *testing.T) {
	w := newWorld(tree(t))
	c, d, s, s2 := w.nodes[city], w.nodes[district], w.nodes[street], w.nodes[second]
	alert := 0
	open := func(of jurisdiction.Code) {
		alert++
		c.opens(t, fmt.Sprint(alert), 3, of)
	}
	for range 3 {
		open(street)
		open(second)
		c.down(t, d, plenty)
		d.down(t, s, plenty)
	}
	for range 4 { // the district is off
		open(street)
		open(second)
		c.down(t, s, plenty)
	}
	open(street)
	c.down(t, d, 1) // it is back
	open(street)
	c.down(t, d, plenty)
	require.NotZero(t, d.down(t, s, plenty))
	require.Len(t, s.got(t, city), 9)
	require.Zero(t, d.down(t, s, plenty))
	open(street)
	c.down(t, s, plenty) // whoever is asked
	c.down(t, d, plenty)
	open(street)
	c.down(t, d, plenty)
	d.down(t, s, 1)
	d.down(t, s2, 1)
	require.Len(t, s.got(t, city), 11)
	require.Len(t, s2.got(t, city), 7)
	for _, n := range w.nodes {
		require.Empty(t, n.evidence(t))
	}
}

// A street that was away for long is led along all marks, in portions.
func TestAfterLong(t *testing.T) {
	w := newWorld(tree(t))
	c, d, s, s2 := w.nodes[city], w.nodes[district], w.nodes[street], w.nodes[second]
	c.opens(t, "first", 3, street)
	c.down(t, d, plenty)
	d.down(t, s, plenty)
	for i := range 200 {
		c.opens(t, fmt.Sprint(i), 3, second)
		c.down(t, d, plenty)
	}
	require.Zero(t, d.down(t, s, plenty), "nothing is for this street")
	c.opens(t, "last", 3, street)
	c.down(t, d, plenty)
	require.Greater(t, d.down(t, s, 20_000), 150, "checkpoints alone lead to the letter")
	require.Len(t, s.got(t, city), 2)
	d.down(t, s2, plenty)
	require.Len(t, s2.got(t, city), 200)
}

// A node that lost the tables beside its journal asks for everything again and writes nothing twice.
func TestRestoredWithoutTables(t *testing.T) {
	w := newWorld(tree(t))
	c, d, s := w.nodes[city], w.nodes[district], w.nodes[street]
	for i := range 5 {
		c.opens(t, fmt.Sprint(i), 3, street)
		c.down(t, d, plenty)
	}
	d.down(t, s, plenty)
	for _, n := range []*node{c, d, s} {
		for _, table := range letters.Tables() {
			rows, err := n.store.Scan(t.Context(), n.store.Own(), table, nil, 1000)
			require.NoError(t, err)
			for _, row := range rows {
				_, errs := n.store.Append(t.Context(), store.Command{Changes: []store.Change{
					{Table: table, Owner: n.store.Own(), Row: row[:table.Key], Delete: true}}})
				require.NoError(t, errs[0])
			}
		}
		n.open()
	}
	c.opens(t, "more", 3, street)
	c.down(t, d, plenty)
	d.down(t, s, plenty)
	require.Len(t, s.got(t, city), 6)
	require.Len(t, d.got(t, city), 6)
	require.Len(t, c.entries(t, dubanv1.EntryKind_ENTRY_KIND_ADDRESSED), 12)
}

// The cursor that was lost numbers nothing again.
func TestFollowingAnew(t *testing.T) {
	w := newWorld(tree(t))
	c := w.nodes[city]
	for i := range 10 {
		c.opens(t, fmt.Sprint(i), 3, street)
	}
	c.address(t)
	all, err := c.store.Read(t.Context(), c.store.Own(), 0, 1<<20)
	require.NoError(t, err)
	core, err := letters.NewAddresser(letters.Config{Code: city, Tree: w.Tree, Store: c.store})
	require.NoError(t, err)
	again, err := core.Follow(t.Context(), all)
	require.NoError(t, err)
	require.Empty(t, again.Entries)
}

// Entries that concern nobody move the cursor seldom, and what is large travels in several letters.
func TestRuns(t *testing.T) {
	w := newWorld(tree(t))
	c, d := w.nodes[city], w.nodes[district]
	messages := make([]proto.Message, 4000)
	for i := range messages {
		messages[i] = &dubanv1.ExplanationGiven{CaseId: "c"}
	}
	for range 2 {
		c.write(t, messages...)
		c.address(t)
	}
	cursor, err := c.store.Cursor(t.Context(), letters.Follower, c.store.Own())
	require.NoError(t, err)
	require.Zero(t, cursor)
	c.write(t, messages...)
	c.address(t)
	cursor, err = c.store.Cursor(t.Context(), letters.Follower, c.store.Own())
	require.NoError(t, err)
	require.GreaterOrEqual(t, cursor, uint64(10_000))
	id := w.ID(district)
	for i := range messages {
		messages[i] = &dubanv1.LevelOpened{AlertId: fmt.Sprint(i), Round: 1, Level: 2, Journal: id[:], Text: string(make([]byte, 500))}
	}
	c.write(t, messages...)
	require.Greater(t, c.down(t, d, 1<<20), 4)
	got := d.got(t, city)
	require.Len(t, got, 4000)
	require.True(t, slices.IsSorted(got))
}

// What can't go into one entry of a child is told to nobody, and holds up nothing.
func TestTooLarge(t *testing.T) {
	w := newWorld(tree(t))
	c, d := w.nodes[city], w.nodes[district]
	c.write(t, &dubanv1.ProfileAdopted{Files: []*dubanv1.File{{Content: make([]byte, journal.MaxPayload-100)}}})
	c.write(t, &dubanv1.ProfileAdopted{Files: []*dubanv1.File{{Content: make([]byte, journal.MaxPayload-200<<10)}}})
	c.down(t, d, plenty)
	require.Equal(t, []uint64{1}, d.got(t, city))
}

func TestNextRefuses(t *testing.T) {
	w := newWorld(tree(t))
	_, err := w.nodes[district].post.Next(t.Context(), other, nil, plenty)
	require.Error(t, err)
	c := w.nodes[city]
	c.opens(t, "a", 3, street)
	c.address(t)
	id := w.ID(city)
	for _, at := range [][]*dubanv1.LetterPosition{
		{{Journal: []byte("short")}},
		{{Journal: id[:], Addressee: string(street), Number: 1 << 63}, {Journal: id[:], Addressee: string(street), Size: 1 << 63}},
	} {
		out, err := c.post.Next(t.Context(), street, at, plenty)
		require.NoError(t, err)
		require.Len(t, out, 1)
	}
	for _, at := range []*dubanv1.LetterPosition{
		{Journal: id[:], Addressee: string(street), Number: 7},
		{Journal: id[:], Addressee: string(street), Size: 1000}, // beyond this journal's end
	} {
		out, err := c.post.Next(t.Context(), street, []*dubanv1.LetterPosition{at}, plenty)
		require.NoError(t, err)
		require.Empty(t, out)
	}
}

// A child that was given checkpoints and not the letters under them is led back to those letters.
func TestLedBack(t *testing.T) {
	w := newWorld(tree(t))
	c, d, s := w.nodes[city], w.nodes[district], w.nodes[street]
	for i := range 20 {
		c.opens(t, fmt.Sprint(i), 3, []jurisdiction.Code{street, second}[i%2])
		c.down(t, d, plenty)
	}
	out := d.next(t, s, plenty)
	require.Greater(t, len(out), 10)
	bareOnes := 0
	for i, m := range out {
		if i > 0 && m.GetLetter().GetAddressed() == nil {
			bareOnes++
			require.Empty(t, s.take(t, m).GetRefused())
		} else if i > 0 {
			m.Letter.Addressed, m.Letter.Entries = nil, nil // held back, with its checkpoint
			require.Empty(t, s.take(t, m).GetRefused())
		}
	}
	require.NotZero(t, bareOnes)
	s.open()
	d.down(t, s, plenty)
	require.Len(t, s.got(t, city), 10)
	require.Empty(t, s.evidence(t))

	// It forwards as it was given, also what it was led back to.
	rows, err := s.store.Scan(t.Context(), s.store.Own(), letters.Mark, nil, 1000)
	require.NoError(t, err)
	for i, row := range rows[1:] {
		require.Equal(t, rows[i][1], row[3], "each mark leads on from the one before")
	}
}
