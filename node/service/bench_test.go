package service_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	dubanv1 "duban.internal/proto/duban/v1"
)

// BenchmarkCollect collects records over loopback gRPC with mutual TLS, each decided and acknowledged on its own: a case
// opened, filed and explained, the records of one case right behind each other. One op is one record.
func BenchmarkCollect(b *testing.B) {
	for _, streams := range []int{1, 4} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			w := newWorld(b, plan{}).staffed()
			clients := make([]client, streams)
			records := make([][]*dubanv1.CollectRequest, streams)
			for i := range clients {
				clients[i] = w.agency(agency)
			}
			for i := 0; i < b.N; i += 3 {
				id := fmt.Sprintf("c-%07d", i)
				lane := i / 3 % streams
				for _, r := range []*dubanv1.CollectRequest{
					record("o/"+id, opening(id)), record("f/"+id, w.filing(id)),
					record("x/"+id, &dubanv1.ExplanationGiven{CaseId: id, Subject: "other", Text: "说明", Officer: "o-2"}),
				} {
					r.OccurredUs = w.us(0)
					records[lane] = append(records[lane], r)
				}
			}
			var group errgroup.Group
			b.ResetTimer()
			for i := range clients {
				group.Go(func() error { return pump(b, clients[i], records[i]) })
			}
			require.NoError(b, group.Wait())
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func pump(b *testing.B, c client, records []*dubanv1.CollectRequest) error {
	s, err := c.Collect(b.Context())
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		for _, r := range records {
			if err := s.Send(r); err != nil {
				return err
			}
		}
		return s.CloseSend()
	})
	for {
		a, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return group.Wait()
		}
		if err != nil {
			return err
		}
		if a.GetOutcome() != taken {
			return fmt.Errorf("%v", a)
		}
	}
}
