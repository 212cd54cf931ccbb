package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/fetch"
	"duban.internal/federation/topology"
	"duban.internal/node/attachment"
	"duban.internal/node/caseview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	"duban.internal/node/store/memory"
	dubanv1 "duban.internal/proto/duban/v1"
)

const (
	city     = jurisdiction.Code("120000")
	district = jurisdiction.Code("120116")
	street   = jurisdiction.Code("120116013")
)

var start = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)

// world is three nodes, one above the other; links stand for their streams.
type world struct {
	*topology.Tree
	clock *clock.Manual
	nodes map[jurisdiction.Code]*node
}

type node struct {
	code    jurisdiction.Code
	dir     string
	store   *memory.Store
	files   *attachment.Files
	server  *fetch.Server
	fetcher *fetch.Fetcher
	link    *link // to its child
}

// link asks a child as a stream does, and breaks as one does.
type link struct {
	child func() *fetch.Server
	asked atomic.Int64

	mu    sync.Mutex
	off   bool
	after []int // bytes after which it breaks, one for each request; none for whole
	spoil func(*dubanv1.SyncChunk)
}

func (l *link) Fetch(ctx context.Context, _ jurisdiction.Code, id journal.ID, sum [32]byte, offset uint64, sink func(*dubanv1.SyncChunk) error) error {
	l.asked.Add(1)
	l.mu.Lock()
	off, spoil, left := l.off, l.spoil, -1
	if len(l.after) > 0 {
		left, l.after = l.after[0], l.after[1:]
	}
	l.mu.Unlock()
	if off {
		return fault.New(fault.Unavailable, "not connected")
	}
	cut, own := fault.New(fault.Unavailable, "the stream ended"), false
	err := l.child().Serve(ctx, &dubanv1.SyncFetch{Journal: id[:], Sha256: sum[:], Offset: offset}, func(c *dubanv1.SyncChunk) error {
		if spoil != nil {
			spoil(c)
		}
		if left >= 0 && len(c.GetData()) > left {
			c.Data = c.Data[:left]
			own = true
			if err := sink(c); err != nil {
				return err
			}
			return cut
		}
		if left >= 0 {
			left -= len(c.GetData())
		}
		err := sink(c)
		own = err != nil
		return err
	})
	if err == nil || own || ctx.Err() != nil {
		return err
	}
	if fault.Is(err, fault.Unavailable) {
		return err
	}
	return fault.New(fault.NotFound, "the child can't give it: %v", err) // as it comes over the wire
}

func newWorld(t testing.TB) *world {
	t.Helper()
	tree, err := topology.Generate(t.TempDir()+"/keys", topology.Spec{City: city, Now: start, Members: []topology.Member{
		{Code: city, Name: "c", Tier: jurisdiction.City}, {Code: district, Name: "d", Parent: city, Tier: jurisdiction.District},
		{Code: street, Name: "s", Parent: district, Tier: jurisdiction.Street}}})
	require.NoError(t, err)
	w := &world{Tree: tree, clock: clock.NewManual(start), nodes: map[jurisdiction.Code]*node{}}
	for _, n := range tree.All() {
		fold := caseview.Fold()
		w.nodes[n.Code] = &node{code: n.Code, dir: t.TempDir(), store: memory.Open(memory.Config{Disk: memory.NewDisk(n.Journal), Clock: w.clock,
			Folds: []*store.Fold{&fold}, Tables: fetch.Tables(), Known: federation.Kinds(), Synced: true})}
	}
	w.nodes[city].link = &link{child: func() *fetch.Server { return w.nodes[district].server }}
	w.nodes[district].link = &link{child: func() *fetch.Server { return w.nodes[street].server }}
	for _, n := range w.nodes {
		w.open(t, n)
	}
	return w
}

func (w *world) open(t testing.TB, n *node) {
	t.Helper()
	var err error
	n.files, err = attachment.Open(attachment.Config{Dir: n.dir, Max: 4 << 20})
	require.NoError(t, err)
	cfg := fetch.Config{Code: n.code, Tree: w.Tree, Files: n.files, Named: fetch.Names(n.store), Clock: w.clock}
	if n.link != nil {
		cfg.Below = n.link
	}
	n.server, err = fetch.NewServer(cfg)
	require.NoError(t, err)
	n.fetcher, err = fetch.NewFetcher(cfg)
	require.NoError(t, err)
}

func (w *world) id(code jurisdiction.Code) journal.ID {
	n, _ := w.Node(code)
	return n.Journal
}

// write appends entries to a node's journal, and what the nodes above would have of them.
func (w *world) write(t testing.TB, code jurisdiction.Code, messages ...proto.Message) {
	t.Helper()
	n := w.nodes[code]
	var c store.Command
	for _, m := range messages {
		kind := dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED
		switch m.(type) {
		case *dubanv1.CaseOpened:
			kind = dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED
		case *dubanv1.StageRecorded:
			kind = dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED
		case *dubanv1.LevelOpened:
			kind = dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED
		}
		payload, err := proto.Marshal(m)
		require.NoError(t, err)
		p := store.Proposal{Stream: "case/c", Kind: uint32(kind), Actor: "agency:market", Payload: payload}
		p.Seal()
		c.Entries = append(c.Entries, p)
	}
	_, errs := n.store.Append(t.Context(), c)
	require.NoError(t, errs[0])
	for at, _ := w.Node(code); at.Parent != ""; {
		at, _ = w.Node(at.Parent)
		above := w.nodes[at.Code].store
		from := uint64(0)
		if info, ok := above.Journal(w.id(code)); ok {
			from = info.Size
		}
		entries, err := n.store.Read(t.Context(), w.id(code), from, 1<<20)
		require.NoError(t, err)
		require.NoError(t, above.AppendReplica(t.Context(), store.Replica{Journal: w.id(code), From: from, Entries: entries})[0])
	}
}

// evidence puts bytes into a node and a case that names them.
func (w *world) evidence(t testing.TB, code jurisdiction.Code, caseID string, contents ...[]byte) (sums [][]byte) {
	t.Helper()
	w.write(t, code, &dubanv1.CaseOpened{CaseId: caseID, Agency: "market"})
	for i, content := range contents {
		sum := sha256.Sum256(content)
		_, err := w.nodes[code].files.Put(t.Context(), sum[:], uint64(len(content)), bytes.NewReader(content))
		require.NoError(t, err)
		if i%2 == 0 {
			w.write(t, code, &dubanv1.EvidenceAttached{CaseId: caseID, Sha256: sum[:], Size: uint64(len(content))})
		} else {
			w.write(t, code, &dubanv1.StageRecorded{CaseId: caseID, Stage: "s", Documents: []*dubanv1.Document{{Name: "d", Sha256: sum[:]}, {Name: "no file"}}})
		}
		sums = append(sums, sum[:])
	}
	return sums
}

func content(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

func whole(t testing.TB, n *node, sum []byte) []byte {
	t.Helper()
	r, err := n.files.Get(sum, 0)
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return b
}

// A street's evidence comes to the city through the district, which keeps no copy, over breaks and a restart of the city.
func TestThroughTheLevels(t *testing.T) {
	w := newWorld(t)
	c, d := w.nodes[city], w.nodes[district]
	bytes := content(1<<20+77, 1)
	sum := w.evidence(t, street, "c", bytes)[0]
	c.link.after = []int{300_000, 0}
	err := c.fetcher.Fetch(t.Context(), w.id(street), sum)
	require.Equal(t, fault.Unavailable, fault.Of(err), "the second break brought nothing")
	w.open(t, c)
	d.link.after = []int{400_000}
	var from []uint64
	c.link.spoil = func(c *dubanv1.SyncChunk) { from = append(from, c.GetOffset()) }
	require.NoError(t, c.fetcher.Fetch(t.Context(), w.id(street), sum), "it goes on by itself where something came")
	require.EqualValues(t, 300_000, from[0], "nothing is sent twice")
	require.Contains(t, from, uint64(700_000))
	require.Equal(t, bytes, whole(t, c, sum))
	_, kept := d.files.Has(sum)
	require.False(t, kept)
	asked := c.link.asked.Load()
	require.NoError(t, c.fetcher.Bring(t.Context(), sum))
	require.Equal(t, asked, c.link.asked.Load(), "what is here is not asked for")
	require.NoError(t, d.fetcher.Bring(t.Context(), sum))
	require.Equal(t, bytes, whole(t, d, sum))
}

// Many who want the same share one transfer; one who gives up does not take the others with him.
func TestTogether(t *testing.T) {
	w := newWorld(t)
	d := w.nodes[district]
	sum := w.evidence(t, street, "c", content(2<<20, 2))[0]
	canceled, cancel := context.WithCancel(t.Context())
	once := sync.Once{}
	began := make(chan struct{})
	d.link.spoil = func(*dubanv1.SyncChunk) { once.Do(func() { close(began); cancel() }) }
	var group sync.WaitGroup
	group.Go(func() {
		if err := d.fetcher.Fetch(canceled, w.id(street), sum); err == nil {
			t.Error("brought by who had given up")
		}
	})
	<-began
	for range 8 {
		group.Go(func() {
			if err := d.fetcher.Fetch(t.Context(), w.id(street), sum); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.LessOrEqual(t, d.link.asked.Load(), int64(2))
}

// Nobody gives what no entry of the journal names, or what isn't below; and nothing but what its address says is kept.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	c, d, s := w.nodes[city], w.nodes[district], w.nodes[street]
	good := content(300_000, 3)
	sum := w.evidence(t, street, "c", good)[0]
	secret := content(10, 4)
	hidden := sha256.Sum256(secret)
	_, err := s.files.Put(t.Context(), hidden[:], 10, bytes.NewReader(secret))
	require.NoError(t, err)
	up := w.id(city)
	for name, ask := range map[string]*dubanv1.SyncFetch{
		"an attachment that no entry names": {Journal: idOf(w, street), Sha256: hidden[:]},
		"another journal":                   {Journal: up[:], Sha256: sum},
		"no journal":                        {Journal: []byte("x"), Sha256: sum},
		"no address":                        {Journal: idOf(w, street), Sha256: sum[:3]},
		"beyond the end":                    {Journal: idOf(w, street), Sha256: sum, Offset: 300_001},
	} {
		err := s.server.Serve(t.Context(), ask, func(*dubanv1.SyncChunk) error {
			t.Errorf("%s: given", name)
			return nil
		})
		require.Error(t, err, name)
	}
	require.Equal(t, fault.NotFound, fault.Of(c.fetcher.Fetch(t.Context(), w.id(street), hidden[:])))
	require.Equal(t, fault.NotFound, fault.Of(c.fetcher.Bring(t.Context(), hidden[:])))
	require.Equal(t, fault.NotFound, fault.Of(s.fetcher.Fetch(t.Context(), w.id(district), sum)))
	require.Zero(t, c.link.asked.Load(), "what is not to be had is not asked for")

	stop := errors.New("enough")
	require.ErrorIs(t, s.server.Serve(t.Context(), &dubanv1.SyncFetch{Journal: idOf(w, street), Sha256: sum}, func(*dubanv1.SyncChunk) error { return stop }), stop)
	chunks := 0
	require.NoError(t, s.server.Serve(t.Context(), &dubanv1.SyncFetch{Journal: idOf(w, street), Sha256: sum, Offset: 300_000}, func(c *dubanv1.SyncChunk) error {
		chunks++
		require.EqualValues(t, 300_000, c.GetSize())
		return nil
	}))
	require.Equal(t, 1, chunks, "at the end the length is said")

	for name, spoil := range map[string]func(*dubanv1.SyncChunk){
		"other bytes":        func(c *dubanv1.SyncChunk) { c.Data[0] ^= 1 },
		"a gap":              func(c *dubanv1.SyncChunk) { c.Offset += 10 },
		"more than there is": func(c *dubanv1.SyncChunk) { c.Data = append(c.Data, make([]byte, 100_000)...) },
		"no length":          func(c *dubanv1.SyncChunk) { c.Size = 0 },
		"another length":     func(c *dubanv1.SyncChunk) { c.Size += c.Offset },
		"a short length":     func(c *dubanv1.SyncChunk) { c.Size -= 10; c.Data = c.Data[:min(len(c.Data), int(c.Size-c.Offset))] },
		"too large":          func(c *dubanv1.SyncChunk) { c.Size = 1 << 30; c.Data = make([]byte, 5<<20) },
	} {
		d.link.spoil = spoil
		err := d.fetcher.Fetch(t.Context(), w.id(street), sum)
		require.Error(t, err, name)
		_, ok := d.files.Has(sum)
		require.False(t, ok, name)
	}
	d.link.spoil = nil
	require.NoError(t, d.fetcher.Fetch(t.Context(), w.id(street), sum), "then the truth is taken")
	require.Equal(t, good, whole(t, d, sum))
}

// A child that gave more bytes than there are, and broke off, holds up nobody who asks again.
func TestTooManyBytesBefore(t *testing.T) {
	w := newWorld(t)
	d := w.nodes[district]
	sum := w.evidence(t, street, "c", content(1000, 5))[0]
	p, err := d.files.Resume(sum)
	require.NoError(t, err)
	_, err = p.Write(make([]byte, 2000))
	require.NoError(t, err)
	require.NoError(t, p.Close())
	require.Equal(t, fault.NotFound, fault.Of(d.fetcher.Fetch(t.Context(), w.id(street), sum)))
	require.NoError(t, d.fetcher.Fetch(t.Context(), w.id(street), sum))
}

func idOf(w *world, code jurisdiction.Code) []byte {
	id := w.id(code)
	return id[:]
}

// The evidence of an alert that came to this level is copied, also where the child is off at first.
func TestEvidence(t *testing.T) {
	w := newWorld(t)
	d := w.nodes[district]
	sums := w.evidence(t, street, "c", content(300_000, 6), content(100, 7), content(200, 8))
	untouched := w.evidence(t, street, "quiet", content(50, 9))
	d.link.off = true
	e, err := fetch.NewEvidence(fetch.EvidenceConfig{Store: d.store, Files: d.files, Clock: w.clock, Fetch: d.fetcher.Fetch, OfCase: fetch.OfCase(d.store)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.write(t, district, &dubanv1.LevelOpened{AlertId: "a", Level: 1, Journal: idOf(w, street), CaseId: "quiet"},
		&dubanv1.LevelOpened{AlertId: "b", Level: 2, Journal: idOf(w, street)},
		&dubanv1.LevelOpened{AlertId: "c", Level: 2, Journal: idOf(w, city), CaseId: "c"},
		&dubanv1.LevelOpened{AlertId: "d", Level: 2, Journal: idOf(w, street), CaseId: "c"},
		&dubanv1.LevelOpened{AlertId: "e", Level: 2, Journal: idOf(w, street), CaseId: "c"})
	waiting := func() []fetch.Waiting {
		all, err := e.Waiting(t.Context(), 100)
		require.NoError(t, err)
		return all
	}
	require.Eventually(t, func() bool {
		for _, x := range waiting() {
			if x.Attempts == 0 || x.Problem == "" {
				return false
			}
		}
		return len(waiting()) == 3
	}, 10*time.Second, time.Millisecond)
	d.link.mu.Lock()
	d.link.off = false
	d.link.after = []int{200_000}
	d.link.mu.Unlock()
	require.Eventually(t, func() bool {
		w.clock.Advance(10 * time.Second)
		return len(waiting()) == 0
	}, 10*time.Second, time.Millisecond)
	for _, sum := range sums {
		_, ok := d.files.Has(sum)
		require.True(t, ok)
	}
	_, ok := d.files.Has(untouched[0])
	require.False(t, ok)

	// Started anew it has nothing to do; a later level of the same case brings what was attached meanwhile.
	asked := d.link.asked.Load()
	more := w.evidence(t, street, "c2", content(10, 10))[0]
	w.write(t, street, &dubanv1.EvidenceAttached{CaseId: "c", Sha256: more, Size: 10})
	w.write(t, district, &dubanv1.LevelOpened{AlertId: "d", Level: 3, Journal: idOf(w, street), CaseId: "c"})
	require.Eventually(t, func() bool { _, ok := d.files.Has(more); return ok }, 10*time.Second, time.Millisecond)
	require.Equal(t, asked+1, d.link.asked.Load())
}

// What can't be had is tried less and less often, and stays in sight.
func TestEvidenceThatIsLost(t *testing.T) {
	w := newWorld(t)
	d := w.nodes[district]
	var sums [][]byte
	for i := range 40 {
		sum := sha256.Sum256(fmt.Append(nil, i))
		sums = append(sums, sum[:])
	}
	w.write(t, street, &dubanv1.CaseOpened{CaseId: "c", Agency: "market"})
	tried := atomic.Int64{}
	e, err := fetch.NewEvidence(fetch.EvidenceConfig{Store: d.store, Files: d.files, Clock: w.clock,
		OfCase: func(context.Context, journal.ID, string) ([][]byte, error) { return sums, nil },
		Fetch: func(context.Context, journal.ID, []byte) error {
			tried.Add(1)
			return fault.New(fault.NotFound, "lost")
		}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { _ = e.Run(ctx) }) // nil
	w.write(t, district, &dubanv1.LevelOpened{AlertId: "d", Level: 2, Journal: idOf(w, street), CaseId: "c"})
	round := func(n int64) {
		require.Eventually(t, func() bool { return tried.Load() == n }, 10*time.Second, time.Millisecond)
	}
	round(40)
	for i, pause := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
		require.Eventually(t, func() bool { // all are settled before the clock moves
			all, err := e.Waiting(t.Context(), 100)
			require.NoError(t, err)
			for _, x := range all {
				if x.Attempts != i+1 {
					return false
				}
			}
			return len(all) == 40
		}, 10*time.Second, time.Millisecond)
		w.clock.Advance(pause - time.Microsecond)
		require.Equal(t, int64(40*(i+1)), tried.Load())
		w.clock.Advance(time.Microsecond)
		round(int64(40 * (i + 2)))
	}
}
