package federation_test

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation/federationtest"
	"duban.internal/node/clock"
)

// flooded is what a flood did to the others.
type flooded struct {
	lags    []time.Duration // from an entry of a quiet child to its acknowledgement
	waiting int             // most bytes that were not acknowledged
	heap    uint64          // most of the heap in use, children and store included
	before  uint64          // heap in use before
	rate    float64         // entries a second of the flood
}

func (f *flooded) at(share float64) time.Duration {
	return f.lags[min(int(share*float64(len(f.lags))), len(f.lags)-1)]
}

// flood has children over real sockets and TLS on one parent with a real store. One sends so many entries as fast as it may;
// each of the others sends one every so often.
func flood(tb testing.TB, children, entries, memory int, every time.Duration) flooded {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tree := federationtest.NewWideTree(tb, clock.System().Now(), children)
	nodes := tree.All()
	parent := newStore(tb, tree, nodes[0].Code)
	top := tree.Start(tb, nodes[0].Code, parent, federationtest.Options{Memory: memory})
	stubs := make([]*federationtest.Stub, children)
	for i, n := range nodes[1:] {
		s, err := tree.Stub(ctx, tb, n.Code, top.Address)
		if err != nil {
			tb.Fatal(err)
		}
		defer s.Close()
		stubs[i] = s
	}
	var out flooded
	var mu sync.Mutex
	var over atomic.Bool
	var quiet, watch sync.WaitGroup
	sample := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	out.before = sample()
	watch.Go(func() {
		for !over.Load() {
			_ = clock.Pause(ctx, clock.System(), 20*time.Millisecond)
			out.heap, out.waiting = max(out.heap, sample()), max(out.waiting, top.Downlink.Waiting())
		}
	})
	for i, s := range stubs[1:] {
		quiet.Go(func() {
			_ = clock.Pause(ctx, clock.System(), time.Duration(i)*every/time.Duration(children)) // not all at once
			for !over.Load() {
				begun := time.Now()
				m, err := s.Batch(1, clock.Micros(begun), []byte("an explanation"))
				if err == nil {
					err = s.Stream.Send(m)
				}
				if err == nil {
					err = s.Ack(s.Size())
				}
				if err != nil {
					tb.Errorf("a quiet child: %v", err)
					return
				}
				mu.Lock()
				out.lags = append(out.lags, time.Since(begun))
				mu.Unlock()
				_ = clock.Pause(ctx, clock.System(), every)
			}
		})
	}
	begun := time.Now()
	if err := pour(stubs[0], entries); err != nil {
		tb.Fatal(err)
	}
	out.rate = float64(entries) / time.Since(begun).Seconds()
	over.Store(true)
	quiet.Wait()
	watch.Wait()
	slices.Sort(out.lags)
	if n := size(parent, nodes[1].Journal); n != uint64(entries) {
		tb.Errorf("the flood left %d of %d entries", n, entries)
	}
	return out
}

// pour sends entries as fast as the window allows.
func pour(s *federationtest.Stub, entries int) error {
	payload := make([]byte, 300)
	type sent struct {
		size  uint64
		bytes int
	}
	var flights []sent
	waiting := 0
	for left := entries; left > 0 || len(flights) > 0; {
		if left > 0 && waiting < s.Window {
			m, err := s.Batch(min(left, 500), clock.Micros(time.Now()), payload)
			if err != nil {
				return err
			}
			if err := s.Stream.Send(m); err != nil {
				return err
			}
			left -= len(m.GetBatch().GetEntries())
			flights = append(flights, sent{s.Size(), proto.Size(m)})
			waiting += proto.Size(m)
			continue
		}
		m, err := s.Stream.Recv()
		if err != nil {
			return err
		}
		for len(flights) > 0 && flights[0].size <= m.GetAck().GetSize() {
			waiting -= flights[0].bytes
			flights = flights[1:]
		}
	}
	return nil
}

// One child's flood leaves the others' lag under a second and memory within its bound.
func TestFlood(t *testing.T) {
	const memory = 8 << 20
	f := flood(t, 40, 30_000, memory, 100*time.Millisecond)
	t.Logf("%d entries of quiet children: lag p50 %v, p99 %v, most %v; flood %.0f entries/s; most waiting %d KiB",
		len(f.lags), f.at(0.5), f.at(0.99), f.at(1), f.rate, f.waiting>>10)
	if len(f.lags) < 100 {
		t.Errorf("only %d entries of quiet children", len(f.lags))
	}
	if f.at(0.99) > time.Second {
		t.Errorf("lag p99 %v, up to %v", f.at(0.99), f.at(1))
	}
	if f.waiting > memory+1<<20 {
		t.Errorf("%d bytes waited, %d are allowed", f.waiting, memory)
	}
}

// BenchmarkFlood300 is a million entries of one among 300 children.
func BenchmarkFlood300(b *testing.B) {
	const memory = 256 << 20
	for b.Loop() {
		f := flood(b, 300, 1_000_000, memory, time.Second)
		b.ReportMetric(float64(f.at(0.5).Microseconds())/1000, "lag-p50-ms")
		b.ReportMetric(float64(f.at(0.99).Microseconds())/1000, "lag-p99-ms")
		b.ReportMetric(float64(f.at(1).Microseconds())/1000, "lag-most-ms")
		b.ReportMetric(f.rate, "flood-entries/s")
		b.ReportMetric(float64(f.waiting)/(1<<20), "waiting-MiB")
		b.ReportMetric(float64(f.heap)/(1<<20), "heap-MiB")
		b.ReportMetric(float64(f.before)/(1<<20), "heap-before-MiB")
		b.ReportMetric(0, "ns/op")
	}
}
