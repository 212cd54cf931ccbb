package embedded_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
)

// The realistic fold: a row of the case, a row of the stage, and one in 50 entries an alert with an index on its due
// time. Rows are as wide as those of a case table.
var (
	realCase = &store.Table{Name: "real_case", Key: 1, Columns: []store.Column{
		{Name: "case_id", Type: store.Text}, {Name: "agency", Type: store.Text}, {Name: "title", Type: store.Text},
		{Name: "stage", Type: store.Text}, {Name: "stages", Type: store.Int}, {Name: "opened", Type: store.Int},
		{Name: "changed", Type: store.Int}, {Name: "due", Type: store.Int, Null: true}, {Name: "closed", Type: store.Int, Null: true}},
		Indexes: []store.Index{{Name: "real_case_agency", Columns: []string{"agency", "opened"}}}}
	realStage = &store.Table{Name: "real_stage", Key: 2, Columns: []store.Column{
		{Name: "case_id", Type: store.Text}, {Name: "number", Type: store.Int}, {Name: "name", Type: store.Text},
		{Name: "officer", Type: store.Text}, {Name: "occurred", Type: store.Int}, {Name: "recorded", Type: store.Int}}}
	realAlert = &store.Table{Name: "real_alert", Key: 1, Columns: []store.Column{
		{Name: "alert_id", Type: store.Text}, {Name: "case_id", Type: store.Text}, {Name: "level", Type: store.Int}, {Name: "due", Type: store.Int}},
		Indexes: []store.Index{{Name: "real_alert_due", Columns: []string{"due"}}}}
)

func realFold() *store.Fold {
	return &store.Fold{Name: "real", Version: 1, Tables: []*store.Table{realCase, realStage, realAlert}, Kinds: []uint32{1},
		Apply: func(tx store.Tx, e *journal.Entry) error {
			id := e.Stream
			row := store.Row{id, "agency:120116-7", "a case of unlicensed business", "filing", int64(0), e.OccurredAt, e.RecordedAt, nil, nil}
			if was, ok := tx.Get(realCase, id); ok {
				row = slices.Clone(was)
			}
			n := row[4].(int64)
			row[3], row[4], row[6], row[7] = "investigation", n+1, e.RecordedAt, e.OccurredAt+90*86400e6
			tx.Put(realCase, row)
			tx.Put(realStage, store.Row{id, n % 9, "investigation", "officer:31", e.OccurredAt, e.RecordedAt})
			if e.Number%50 == 0 {
				tx.Put(realAlert, store.Row{"alert/" + id, id, int64(1), e.RecordedAt + 7*86400e6})
			}
			return nil
		}}
}

func benchStore(b *testing.B, fold *store.Fold, slow time.Duration) *embedded.Store {
	b.Helper()
	cfg := embedded.Config{Dir: b.TempDir(), Journal: journal.NewID(), Folds: []*store.Fold{fold}, Clock: clock.System()}
	if slow > 0 {
		cfg = embedded.SlowSync(cfg, slow)
	}
	s, err := embedded.Open(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// appendLoad appends b.N entries of 1 KB, each batch a command of its own and answered on its own, with so many callers
// at once. It reports entries per second and the time until an answer.
func appendLoad(b *testing.B, s *embedded.Store, cases, callers, batch int) {
	payload := make([]byte, 1024)
	var next atomic.Int64
	took := make([][]time.Duration, callers)
	var all sync.WaitGroup
	b.ResetTimer()
	jobs, logs := s.Jobs()
	begin, used := time.Now(), cpu()
	for w := range callers {
		all.Add(1)
		go func() {
			defer all.Done()
			r := rand.New(rand.NewPCG(uint64(w), 7))
			own := slices.Clone(payload)
			for {
				n := int(next.Add(int64(batch)))
				if n > b.N+batch-1 {
					return
				}
				c := store.Command{Client: "bench", Key: strconv.Itoa(n)}
				binary.BigEndian.PutUint64(own, uint64(n))
				for range batch {
					c.Entries = append(c.Entries, store.Proposal{Stream: "case/2026-" + strconv.Itoa(r.IntN(cases)), Kind: 1, Actor: "agency:120116-7", Payload: own})
				}
				at := time.Now()
				if _, errs := s.Append(context.Background(), c); errs[0] != nil {
					b.Error(errs[0])
					return
				}
				took[w] = append(took[w], time.Since(at))
			}
		}()
	}
	all.Wait()
	if err := s.View(context.Background(), func(store.Queryer) error { return nil }); err != nil { // the tables have it all
		b.Error(err)
	}
	seconds := time.Since(begin).Seconds()
	b.StopTimer()
	report(b, slices.Concat(took...))
	b.ReportMetric(float64(b.N)/seconds, "entries/s")
	b.ReportMetric((cpu()-used).Seconds()*1e6/float64(b.N), "cpu-us/entry")
	moreJobs, moreLogs := s.Jobs()
	b.ReportMetric(float64(b.N)/float64(max(1, moreJobs-jobs)), "entries/commit")
	b.ReportMetric(float64(b.N)/float64(max(1, moreLogs-logs)), "entries/log")
}

// cpu is the processor time that this process has used: what a busy machine does not change much.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	if len(took) == 0 {
		return
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
}

// warm gives every case its first entry, so that the measured ones change rows.
func warm(b *testing.B, s *embedded.Store, cases int) {
	for from := 0; from < cases; {
		var c store.Command
		for ; len(c.Entries) < 500 && from < cases; from++ {
			c.Entries = append(c.Entries, store.Proposal{Stream: "case/2026-" + strconv.Itoa(from), Kind: 1, Payload: []byte("filed")})
		}
		if _, errs := s.Append(context.Background(), c); errs[0] != nil {
			b.Fatal(errs[0])
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, x := range []struct {
		name           string
		fold           func() *store.Fold
		cases          int
		callers, batch int
		slow           time.Duration
	}{
		{"one_row/cases=100000/in_flight=1", countFold, 100_000, 1, 1, 0},
		{"one_row/cases=100000/in_flight=64", countFold, 100_000, 64, 1, 0},
		{"one_row/cases=100000/in_flight=512", countFold, 100_000, 512, 1, 0},
		{"real/cases=100000/in_flight=1", realFold, 100_000, 1, 1, 0},
		{"real/cases=100000/in_flight=64", realFold, 100_000, 64, 1, 0},
		{"real/cases=100000/in_flight=512", realFold, 100_000, 512, 1, 0},
		{"real/cases=100000/in_flight=4096", realFold, 100_000, 4096, 1, 0},
		{"real/cases=100000/in_flight=64/batch=64", realFold, 100_000, 64, 64, 0},
		{"real/cases=10000/in_flight=512", realFold, 10_000, 512, 1, 0},
		{"real/cases=10000/in_flight=4096", realFold, 10_000, 4096, 1, 0},
		{"real/cases=100000/in_flight=512/fsync+2ms", realFold, 100_000, 512, 1, 2 * time.Millisecond},
		{"real/cases=10000/in_flight=512/fsync+2ms", realFold, 10_000, 512, 1, 2 * time.Millisecond},
	} {
		b.Run(x.name, func(b *testing.B) {
			s := benchStore(b, x.fold(), x.slow)
			if b.N > 1 {
				warm(b, s, x.cases)
			}
			appendLoad(b, s, x.cases, x.callers, x.batch)
		})
	}
}

// BenchmarkGet reads rows by key: those that are remembered, and those that only the tables have.
func BenchmarkGet(b *testing.B) {
	const cases = 20_000
	for name, remembered := range map[string]int{"memory": 2 * cases, "tables": 1} {
		b.Run(name, func(b *testing.B) {
			s, err := embedded.Open(context.Background(), embedded.Config{Dir: b.TempDir(), Journal: journal.NewID(), Folds: []*store.Fold{realFold()}, Clock: clock.System(), CacheRows: remembered})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }() // only read
			warm(b, s, cases)
			warm(b, s, cases)
			if err := s.View(context.Background(), func(store.Queryer) error { return nil }); err != nil { // nothing is unwritten
				b.Fatal(err)
			}
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				r := rand.New(rand.NewPCG(1, 7))
				for pb.Next() {
					if _, ok, err := s.Get(context.Background(), s.Own(), realCase, "case/2026-"+strconv.Itoa(r.IntN(cases))); !ok || err != nil {
						b.Error(ok, err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkCatchUp is a parent that takes over a journal of b.N entries from nothing, run by run of 256 entries.
func BenchmarkCatchUp(b *testing.B) {
	for _, cases := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("cases=%d", cases), func(b *testing.B) {
			s := benchStore(b, realFold(), 0)
			id := journal.NewID()
			r := rand.New(rand.NewPCG(1, 7))
			payload := make([]byte, 1024)
			es := make([]journal.Entry, b.N)
			for i := range es {
				p := store.Proposal{Payload: payload}
				p.Seal()
				h := journal.Header{Journal: id, Number: uint64(i), OccurredAt: 1, RecordedAt: int64(i), Kind: 1, Algorithm: journal.SHA256,
					Digest: p.Digest, Actor: "agency:120116-7", Stream: "case/2026-" + strconv.Itoa(r.IntN(cases))}
				es[i] = journal.Entry{Header: h, Raw: h.Append(nil), Salt: p.Salt, Payload: payload}
			}
			b.ResetTimer()
			begin, used := time.Now(), cpu()
			const run = 256
			var wait sync.WaitGroup
			room := make(chan struct{}, 1)
			for at := 0; at < len(es); {
				// Several runs in one call share commits, as a downlink with a full window has them.
				var batch []store.Replica
				for k := 0; k < 16 && at < len(es); k++ {
					n := min(run, len(es)-at)
					batch = append(batch, store.Replica{Journal: id, From: uint64(at), Entries: es[at : at+n]})
					at += n
				}
				room <- struct{}{}
				wait.Add(1)
				go func() {
					defer wait.Done()
					defer func() { <-room }()
					for _, err := range s.AppendReplica(context.Background(), batch...) {
						if err != nil {
							b.Error(err)
						}
					}
				}()
			}
			wait.Wait()
			b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "entries/s")
			b.ReportMetric((cpu()-used).Seconds()*1e6/float64(b.N), "cpu-us/entry")
		})
	}
}

// BenchmarkFsync is the disk alone: 4 KB appended, then fsynced.
func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	for b.Loop() {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "fsync/s")
}
