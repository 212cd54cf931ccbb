package letters_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/letters"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	dubanv1 "duban.internal/proto/duban/v1"
)

// durable puts a node on the engine that nodes run on.
func durable(tb testing.TB, w *world, code jurisdiction.Code) *node {
	tb.Helper()
	folds := []store.Fold{federation.Fold(), letters.Fold()}
	s, err := embedded.Open(tb.Context(), embedded.Config{Dir: tb.TempDir(), Journal: w.ID(code), Clock: clock.System(),
		Folds: []*store.Fold{&folds[0], &folds[1]}, Tables: append(letters.Tables(), federation.Tables()...), Known: federation.Kinds()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	n := w.nodes[code]
	n.use(s)
	return n
}

// fill writes openings about a street's cases, as many as asked for.
func fill(tb testing.TB, n *node, of jurisdiction.Code, entries int) {
	tb.Helper()
	id := n.w.ID(of)
	for done := 0; done < entries; {
		commands := make([]store.Command, min(500, entries-done))
		for i := range commands {
			payload, err := proto.Marshal(&dubanv1.LevelOpened{AlertId: fmt.Sprintf("%032x", done+i), Round: 1, Level: 3, Journal: id[:], CaseId: fmt.Sprint(done),
				Point: "filing-overdue", Article: "T16", Role: "legal_office", Receiver: string(n.code), Limit: "3wd",
				Text: "立案审批超过期限未办结，请核查处理", ProfileHash: make([]byte, 32), CalendarHash: make([]byte, 32)})
			if err != nil {
				tb.Fatal(err)
			}
			p := store.Proposal{Stream: fmt.Sprint("alert/", done+i), Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED), Actor: "node:120000", Payload: payload}
			p.Seal()
			commands[i].Entries = []store.Proposal{p}
		}
		if _, errs := n.store.Append(context.Background(), commands...); errors.Join(errs...) != nil {
			tb.Fatal(errors.Join(errs...))
		}
		done += len(commands)
	}
}

// The same on the engine that nodes run on.
func TestDurably(t *testing.T) {
	w := newWorld(tree(t))
	c, d, s := durable(t, w, city), durable(t, w, district), durable(t, w, street)
	fill(t, c, street, 2500)
	c.down(t, d, plenty)
	d.down(t, s, plenty)
	if got := len(s.got(t, city)); got != 2500 {
		t.Fatalf("%d of 2500", got)
	}
	fill(t, c, street, 1)
	c.down(t, d, plenty)
	fill(t, c, street, 1)
	c.down(t, d, plenty)
	if n := d.down(t, s, plenty); n != 2 {
		t.Fatalf("%d letters", n)
	}
}

// BenchmarkFeed carries openings from a city through a district to a street, each step by itself: entries a second.
func BenchmarkFeed(b *testing.B) {
	const entries = 20_000
	w := newWorld(tree(b))
	c := durable(b, w, city)
	fill(b, c, street, entries)
	c.address(b)
	b.Run("address", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			fill(b, c, street, entries)
			b.StartTimer()
			c.address(b)
		}
		b.ReportMetric(float64(b.N*entries)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("build", func(b *testing.B) {
		n, bytes, id := 0, 0, w.ID(city)
		for b.Loop() {
			at := &dubanv1.LetterPosition{Journal: id[:], Addressee: string(street)}
			for range 10 {
				out, err := c.post.Next(b.Context(), street, []*dubanv1.LetterPosition{at}, 1<<20)
				if err != nil || len(out) == 0 {
					b.Fatal(len(out), err)
				}
				for _, m := range out {
					at.Number += uint64(len(m.GetLetter().GetEntries()))
					n += len(m.GetLetter().GetEntries())
					bytes += proto.Size(m)
				}
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
		b.ReportMetric(float64(bytes)/float64(n), "bytes/entry")
	})
	take := func(b *testing.B, up *node, code jurisdiction.Code, feed int) {
		n := 0
		for b.Loop() {
			b.StopTimer()
			child := durable(b, w, code)
			out := up.next(b, child, 4<<20)
			if len(out) < feed {
				b.Fatal(len(out))
			}
			b.StartTimer()
			for _, m := range out {
				if ack := child.take(b, m); ack.GetRefused() != "" {
					b.Fatal(ack)
				}
				n += len(m.GetLetter().GetEntries())
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
	}
	b.Run("take", func(b *testing.B) { take(b, c, street, 4) })
	b.Run("whole", func(b *testing.B) {
		n := 0
		for b.Loop() {
			b.StopTimer()
			d, s := durable(b, w, district), durable(b, w, street)
			b.StartTimer()
			c.down(b, d, 4<<20)
			d.down(b, s, 4<<20)
			b.StopTimer()
			n += len(s.got(b, city))
			b.StartTimer()
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
	})
}

// BenchmarkOne carries one opening at a time from a city to its child: what a letter costs where there is no flood.
func BenchmarkOne(b *testing.B) {
	w := newWorld(tree(b))
	c, d := durable(b, w, city), durable(b, w, district)
	fill(b, c, district, 10_000)
	c.down(b, d, plenty)
	for b.Loop() {
		fill(b, c, district, 1)
		c.down(b, d, plenty)
	}
}

// BenchmarkIdle asks for letters of a child that has them all.
func BenchmarkIdle(b *testing.B) {
	w := newWorld(tree(b))
	c, d := durable(b, w, city), durable(b, w, district)
	fill(b, c, street, 1000)
	c.down(b, d, plenty)
	at, err := d.box.Positions(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if out, err := c.post.Next(b.Context(), district, at, plenty); err != nil || len(out) > 0 {
			b.Fatal(len(out), err)
		}
	}
}

// counting counts what a letter costs a store.
type counting struct {
	fullStore
	rows, bytes, hashes int
}

func (c *counting) Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error) {
	c.rows++
	return c.fullStore.Get(ctx, id, t, key...)
}

func (c *counting) Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error) {
	rows, err := c.fullStore.Scan(ctx, id, t, from, most)
	c.rows += 1 + len(rows)
	return rows, err
}

func (c *counting) Read(ctx context.Context, id journal.ID, from uint64, most int) ([]journal.Entry, error) {
	entries, err := c.fullStore.Read(ctx, id, from, most)
	for i := range entries {
		c.bytes += len(entries[i].Raw) + len(entries[i].Payload)
	}
	return entries, err
}

func (c *counting) Hashes(id journal.ID) (tlog.HashReader, error) {
	under, err := c.fullStore.Hashes(id)
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		c.hashes += len(indexes)
		return under.ReadHashes(indexes)
	}), err
}

// What one letter costs does not grow with the journals, but for the hashes of a proof, which grow with the logarithm.
func TestCostIsFlat(t *testing.T) {
	shared := tree(t)
	cost := func(entries int) (sent, taken counting) {
		w := newWorld(shared)
		c, d := w.nodes[city], w.nodes[district]
		up, down := &counting{fullStore: c.store}, &counting{fullStore: d.store}
		fill(t, c, street, entries)
		c.down(t, d, plenty)
		c.use(up)
		d.use(down)
		c.down(t, d, plenty) // what is read once after a start
		c.opens(t, "one", 3, street)
		c.address(t)
		*up, *down = counting{fullStore: up.fullStore}, counting{fullStore: down.fullStore}
		out := c.next(t, d, plenty)
		if len(out) != 2 {
			t.Fatalf("%d letters", len(out))
		}
		for _, m := range out {
			if ack := d.take(t, m); ack.GetRefused() != "" {
				t.Fatal(ack)
			}
		}
		return *up, *down
	}
	sentFew, takenFew := cost(100)
	sentMany, takenMany := cost(5000)
	t.Logf("sender: %d rows, %d bytes, %d hashes; then %d, %d, %d", sentFew.rows, sentFew.bytes, sentFew.hashes, sentMany.rows, sentMany.bytes, sentMany.hashes)
	if sentMany.rows > sentFew.rows || sentMany.bytes > sentFew.bytes+200 || sentMany.hashes > sentFew.hashes+8*20 {
		t.Errorf("sending costs more after 5,000 entries")
	}
	if takenMany.rows > takenFew.rows || takenMany.bytes+takenMany.hashes > 0 {
		t.Errorf("taking costs %+v, then %+v", takenFew, takenMany)
	}
}
