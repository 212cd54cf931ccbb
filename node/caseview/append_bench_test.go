package caseview_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/configs"
	"duban.internal/node/caseview"
	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/profile"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	dubanv1 "duban.internal/proto/duban/v1"
)

// BenchmarkAppend appends stages of 1 KB through the embedded engine with the real fold of cases, each a command with a key
// and the version of its stream, answered on its own. Its time ends when the tables have everything.
func BenchmarkAppend(b *testing.B) {
	for _, cases := range []int{10_000, 100_000} {
		for _, callers := range []int{64, 512} {
			b.Run(fmt.Sprintf("cases=%d/in_flight=%d", cases, callers), func(b *testing.B) { appendStages(b, cases, callers) })
		}
	}
}

func appendStages(b *testing.B, cases, callers int) {
	ctx := context.Background()
	fold := caseview.Fold()
	s, err := embedded.Open(ctx, embedded.Config{Dir: b.TempDir(), Journal: journal.NewID(), Folds: []*store.Fold{&fold}, Clock: clock.System()})
	require.NoError(b, err)
	defer func() { require.NoError(b, s.Close()) }()
	entry := func(kind dubanv1.EntryKind, stream string, m proto.Message) store.Proposal {
		payload, err := proto.Marshal(m)
		if err != nil {
			b.Error(err)
		}
		return store.Proposal{Stream: stream, Kind: uint32(kind), Actor: "agency:1", Payload: payload}
	}
	add := func(entries []store.Proposal) {
		_, errs := s.Append(ctx, store.Command{Entries: entries})
		require.NoError(b, errs[0])
	}
	p, err := profile.Load(configs.FS, "profiles/tianjin")
	require.NoError(b, err)
	hash := p.Hash()
	adopted := &dubanv1.ProfileAdopted{Name: p.Name, Hash: hash[:]}
	for _, f := range p.Files() {
		adopted.Files = append(adopted.Files, &dubanv1.File{Path: f.Path, Content: f.Content})
	}
	add([]store.Proposal{entry(dubanv1.EntryKind_ENTRY_KIND_PROFILE_ADOPTED, "node", adopted)})
	ids := make([]string, min(cases, b.N*10))
	for run := range slices.Chunk(ids, 500) {
		var entries []store.Proposal
		for i := range run {
			run[i] = journal.NewID().String()
			entries = append(entries, entry(dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED, caseview.Stream(run[i]), &dubanv1.CaseOpened{
				CaseId: run[i], Number: "2026-" + run[i][:8], Agency: "agency-" + run[i][:1], Procedure: "penalty_general", Item: "item-7",
			}))
		}
		add(entries)
	}
	reason := strings.Repeat("reason ", 120)
	took := make([][]time.Duration, callers)
	locks := make([]sync.Mutex, len(ids)) // one command a case at a time: no conflicts
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	begin, used := time.Now(), cpuTime(b)
	for w := range callers {
		all.Add(1)
		go func() {
			defer all.Done()
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				i := r.IntN(len(ids))
				for !locks[i].TryLock() {
					i = r.IntN(len(ids))
				}
				stream := caseview.Stream(ids[i])
				at := time.Now()
				version, err := s.Version(ctx, stream)
				if err != nil {
					b.Error(err)
				}
				_, errs := s.Append(ctx, store.Command{
					Client: "bench", Key: strconv.FormatInt(n, 10), Expect: []store.Expect{{Stream: stream, Version: version}},
					Entries: []store.Proposal{entry(dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED, stream, &dubanv1.StageRecorded{
						CaseId: ids[i], Stage: "investigation", CompletedUs: clock.Micros(at), Handler: "officer-31", Officers: []string{"officer-31", "officer-7"},
						Opinion: &dubanv1.Opinion{Result: "agree", Reason: reason},
					})},
				})
				locks[i].Unlock()
				if errs[0] != nil {
					b.Error(errs[0])
					return
				}
				took[w] = append(took[w], time.Since(at))
			}
		}()
	}
	all.Wait()
	if err := s.View(ctx, func(store.Queryer) error { return nil }); err != nil { // the tables have it all
		b.Error(err)
	}
	seconds := time.Since(begin).Seconds()
	b.StopTimer()
	times := slices.Concat(took...)
	slices.Sort(times)
	if len(times) > 0 {
		b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	}
	b.ReportMetric(float64(b.N)/seconds, "entries/s")
	b.ReportMetric((cpuTime(b)-used).Seconds()*1e6/float64(b.N), "cpu-us/entry")
}

// cpuTime is the processor time that this process has used: what a busy machine does not change much.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
