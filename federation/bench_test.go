package federation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"duban.internal/federation/federationtest"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// BenchmarkCatchUp has a cold parent take a journal of 1 KB entries over loopback, TLS and compression: entries a second.
func BenchmarkCatchUp(b *testing.B) {
	const entries = 100_000
	tree := newTree(b)
	child := newStore(b, tree, street)
	words := strings.Fields("现场检查 记录 当事人 行政处罚 决定书 送达 市场监管 食品 经营 许可 officer inspection decision evidence penalty 120116013")
	r := rand.New(rand.NewPCG(1, 2))
	for done := 0; done < entries; {
		commands := make([]store.Command, 1000)
		for i := range commands {
			var text strings.Builder
			for text.Len() < 900 {
				fmt.Fprintf(&text, "%s %d ", words[r.IntN(len(words))], r.IntN(1e6))
			}
			p := store.Proposal{Stream: fmt.Sprint("case/", done+i), Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN),
				Actor: "agency:market", Payload: []byte(text.String())}
			p.Seal()
			commands[i].Entries = []store.Proposal{p}
		}
		if _, errs := child.Append(context.Background(), commands...); errors.Join(errs...) != nil {
			b.Fatal(errors.Join(errs...))
		}
		done += len(commands)
	}
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		begun := processor(b)
		parent := openStore(b, tree, district, b.TempDir())
		b.StartTimer()
		mid := tree.Start(b, district, parent, federationtest.Options{})
		low := tree.Start(b, street, child, federationtest.Options{Parent: mid.Address})
		federationtest.Until(b, "all is acknowledged", func() bool {
			return low.Uplink.Status().Acknowledged[tree.ID(street)] == entries
		})
		b.StopTimer()
		used += processor(b) - begun
		low.Stop()
		mid.Stop()
		if err := parent.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(used.Microseconds())/float64(entries*b.N), "cpu-us/entry") // both ends
}
