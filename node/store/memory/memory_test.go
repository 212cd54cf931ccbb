package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	"duban.internal/node/store/memory"
	"duban.internal/node/store/storetest"
)

func TestContract(t *testing.T) {
	var mu sync.Mutex
	disks := map[string]*memory.Disk{}
	storetest.Run(t, func(_ *testing.T, o storetest.Options) store.Store {
		mu.Lock()
		defer mu.Unlock()
		if disks[o.Dir] == nil {
			disks[o.Dir] = memory.NewDisk(o.Journal)
		}
		return memory.Open(memory.Config{Disk: disks[o.Dir], Folds: o.Folds, Tables: o.Tables, Known: o.Known, Clock: o.Clock, KeyTTL: o.KeyTTL, Synced: true})
	}, storetest.WithoutSQL)
}

var (
	words = &store.Table{Name: "words", Key: 1, Columns: []store.Column{{Name: "word", Type: store.Text}, {Name: "n", Type: store.Int}}}
	notes = &store.Table{Name: "notes", Key: 2, Columns: []store.Column{{Name: "at", Type: store.Int}, {Name: "name", Type: store.Blob}, {Name: "x", Type: store.Text, Null: true}}}
)

func fold() *store.Fold {
	return &store.Fold{Name: "words", Version: 1, Tables: []*store.Table{words}, Kinds: []uint32{1}, Apply: func(tx store.Tx, e *journal.Entry) error {
		word := string(e.Payload)
		n := int64(0)
		if row, ok := tx.Get(words, word); ok {
			n = row[1].(int64)
		}
		if word == "drop" {
			tx.Delete(words, "a")
		}
		tx.Put(words, store.Row{word, n + 1})
		if word == "fail" {
			return errors.New("after the put")
		}
		return nil
	}}
}

// world is a disk under test and the store over it.
type world struct {
	disk  *memory.Disk
	store *memory.Store
	child journal.ID
	clock *clock.Manual
}

func (w *world) open() {
	w.store = memory.Open(memory.Config{Disk: w.disk, Folds: []*store.Fold{fold()}, Tables: []*store.Table{notes}, Known: []uint32{2}, Clock: w.clock})
}

// state is everything that the contract shows.
func (w *world) state(t *testing.T) string {
	t.Helper()
	ctx := context.Background()
	var b strings.Builder
	w.store.Dump(&b, words)
	w.store.Dump(&b, notes)
	for _, info := range w.store.Journals() {
		h, err := w.store.Hashes(info.ID)
		if err != nil {
			t.Fatal(err)
		}
		root, err := journal.Root(h, info.Size)
		if err != nil {
			t.Fatal(err)
		}
		at, _ := w.store.Cursor(ctx, "f", info.ID)
		fmt.Fprintln(&b, info, root, at)
		for from := uint64(0); from < info.Size; from++ {
			e, err := w.store.Read(ctx, info.ID, from, 1)
			if err != nil || len(e) != 1 || e[0].Number != from {
				t.Fatal(e, err)
			}
			fmt.Fprintf(&b, "%x %q\n", e[0].Raw, e[0].Payload)
		}
	}
	for _, s := range []string{"s0", "s1", "s2"} {
		v, _ := w.store.Version(ctx, s)
		fmt.Fprintln(&b, s, v)
	}
	return b.String()
}

// step does something at random.
func (w *world) step(r *rand.Rand) {
	ctx := context.Background()
	switch r.IntN(8) {
	case 0:
		w.clock.Advance(time.Duration(r.IntN(1000)) * time.Second)
	case 1:
		_, _, _ = w.store.Stamp(ctx)
	case 2:
		info, _ := w.store.Journal(w.child)
		p := store.Proposal{Payload: []byte("child")}
		p.Seal()
		h := journal.Header{Journal: w.child, Number: info.Size, RecordedAt: 5, Kind: 1, Algorithm: journal.SHA256, Digest: p.Digest, Stream: "x"}
		_ = w.store.AppendReplica(ctx, store.Replica{Journal: w.child, From: info.Size, Entries: []journal.Entry{{Header: h, Raw: h.Append(nil), Salt: p.Salt, Payload: p.Payload}}})
	case 3:
		change := store.Change{Table: notes, Owner: w.child, Row: store.Row{int64(r.IntN(3)), []byte{0, byte(r.IntN(3))}, nil}, Delete: r.IntN(3) == 0}
		at, _ := w.store.Cursor(ctx, "f", w.child)
		w.store.Append(ctx, store.Command{Changes: []store.Change{change}, Cursors: []store.Advance{{Follower: "f", Journal: w.child, From: at, To: at + 1}}})
	default:
		c := store.Command{Natural: fmt.Sprint("n", r.IntN(50)), Client: "c", Key: fmt.Sprint("k", r.IntN(50))}
		for range 1 + r.IntN(3) {
			c.Entries = append(c.Entries, store.Proposal{Stream: fmt.Sprint("s", r.IntN(3)), Kind: 1 + uint32(r.IntN(2)), Payload: []byte([]string{"a", "b", "drop", "fail"}[r.IntN(4)])})
		}
		w.store.Append(ctx, c)
	}
}

// A crash brings back exactly what was synced, whatever came after; and what was lost can be done again.
func TestCrash(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := &world{disk: memory.NewDisk(journal.ID{1}), child: journal.ID{2}, clock: clock.NewManual(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))}
		w.open()
		synced := w.state(t)
		for range 60 {
			w.step(r)
			switch r.IntN(8) {
			case 0:
				w.disk.Sync()
				synced = w.state(t)
			case 1:
				if w.store.Crash(); w.disk.Dirty() {
					t.Fatal("dirty after a crash")
				}
				if _, errs := w.store.Append(context.Background(), store.Command{}); !fault.Is(errs[0], fault.Unavailable) {
					t.Fatalf("a crashed store takes commands: %v", errs[0])
				}
				w.open()
				if got := w.state(t); got != synced {
					t.Fatalf("seed %d: after a crash:\n%s\nexpected:\n%s", seed, got, synced)
				}
			case 2:
				copied := &world{disk: w.disk.Clone(), child: w.child, clock: w.clock}
				before := w.state(t)
				copied.open()
				if got := copied.state(t); got != before {
					t.Fatalf("seed %d: a clone:\n%s\nof:\n%s", seed, got, before)
				}
				copied.step(r)
				if got := w.state(t); got != before {
					t.Fatalf("seed %d: what the clone did shows:\n%s", seed, got)
				}
			}
		}
	}
}
