package federation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"duban.internal/federation/downlink"
	"duban.internal/federation/federationtest"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// BenchmarkCheckpoint is what a heartbeat costs: the child signs, the parent verifies and countersigns, the child checks.
func BenchmarkCheckpoint(b *testing.B) {
	tree := newTree(b)
	key, parent := tree.Keys[street], tree.Keys[district]
	point := journal.Checkpoint{Journal: tree.ID(street), Size: 1000, Time: 1}
	note, err := key.Sign(point)
	if err != nil {
		b.Fatal(err)
	}
	signed, err := parent.Countersign(note, 1_000_000)
	if err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"sign":        func() error { _, err := key.Sign(point); return err },
		"verify":      func() error { _, err := key.Public().Open(note); return err },
		"countersign": func() error { _, err := parent.Countersign(note, 1_000_000); return err },
		"witnessed":   func() error { _, err := parent.Public().Witnessed(signed); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTake has a parent take a journal of 1 KB entries in batches of 1,000, without a network: proofs alone, storing
// alone, and both.
func BenchmarkTake(b *testing.B) {
	const batches, each = 40, 1000
	tree := newTree(b)
	chain := federationtest.NewChain(tree.Keys[street])
	r := rand.New(rand.NewPCG(1, 1))
	for i := range batches * each {
		chain.Add(int64(i+1), fmt.Sprintf("%0900d", r.Uint64()))
	}
	var messages []*dubanv1.SyncRequest
	var replicas []store.Replica
	for i := range batches {
		messages = append(messages, batch(chain.Batch(i*each, (i+1)*each)))
		replicas = append(replicas, store.Replica{Journal: tree.ID(street), From: uint64(i * each), Entries: chain.Entries[i*each : (i+1)*each]})
	}
	for _, c := range []struct {
		name           string
		proofs, stores bool
	}{{"proofs", true, false}, {"store", false, true}, {"both", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			var used time.Duration
			for b.Loop() {
				b.StopTimer()
				parent := openStore(b, tree, district, b.TempDir())
				core := downlink.NewCore(downlink.CoreConfig{Code: district, Tree: tree.Tree, Key: tree.Keys[district], MaxBatch: 8 << 20,
					Window: 1 << 30, Memory: 1 << 30, Together: 4 << 20})
				core.Connected(1, identity.Identity{City: city, Kind: identity.Node, Code: street})
				b.StartTimer()
				begun := processor(b)
				if c.proofs {
					prove(b, core, parent, tree, messages, c.stores)
				} else {
					for _, r := range replicas { // one after the other, as they are proven
						if err := errors.Join(parent.AppendReplica(context.Background(), r)...); err != nil {
							b.Fatal(err)
						}
					}
				}
				used += processor(b) - begun
				b.StopTimer()
				if n := size(parent, tree.ID(street)); c.stores && n != batches*each {
					b.Fatalf("%d entries", n)
				}
				if err := parent.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(batches*each*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			b.ReportMetric(float64(used.Microseconds())/float64(batches*each*b.N), "cpu-us/entry")
		})
	}
}

// processor is how long the process has used one so far: a figure that holds also where others use it, too.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// prove steps a core through messages.
func prove(b *testing.B, core *downlink.Core, s federationtest.EngineStore, tree *federationtest.Tree, messages []*dubanv1.SyncRequest, stores bool) {
	b.Helper()
	ctx := context.Background()
	effects := func() {
		for out := core.Effects(); len(out) > 0; out = core.Effects() {
			for _, e := range out {
				switch {
				case e.Load != nil:
					states, err := downlink.ReadStates(ctx, s, tree.Tree, e.Load)
					if err != nil {
						b.Fatal(err)
					}
					core.Loaded(1, states, 1)
				case e.Commit != nil:
					errs := make([]error, len(e.Commit.Replicas))
					if stores {
						errs = s.AppendReplica(ctx, e.Commit.Replicas...)
					}
					if err := errors.Join(errs...); err != nil {
						b.Fatal(err)
					}
					core.Stored(e.Commit, errs, make([]error, len(e.Commit.Commands)), 1)
				case e.Hangup != nil:
					b.Fatal(e.Hangup)
				case e.Send != nil && e.Send.Message.GetRefusal() != nil:
					b.Fatal(e.Send.Message.GetRefusal())
				}
			}
		}
	}
	for _, m := range append([]*dubanv1.SyncRequest{hello(street, tree.ID(street))}, messages...) {
		core.Received(1, downlink.Open(tree.Tree, m), 1)
		effects()
	}
}
