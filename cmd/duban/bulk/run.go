package bulk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Summary counts rows.
type Summary struct {
	Rows         int    `json:"rows"`          // answered
	Taken        int    `json:"taken"`         // recorded by this run
	AlreadyThere int    `json:"already_there"` // nothing was added
	Refused      int    `json:"refused"`
	Records      int    `json:"records"` // entries that this run added
	Ended        bool   `json:"ended"`   // the input was read to its end and every row answered
	RefusedFile  string `json:"refused_file,omitempty"`
}

// Stream is one Collect stream. Send and Recv may be called at the same time, as gRPC allows.
type Stream interface {
	Send(*dubanv1.CollectRequest) error
	Recv() (*dubanv1.CollectResponse, error)
	CloseSend() error
}

// Run sends the rows of a source over streams to a node.
type Run struct {
	Mapping *Mapping
	Source  *Source
	Refused *Refused
	// Open opens a Collect stream.
	Open func(context.Context) (Stream, error)
	// Streams is how many are used; equal rows share one.
	Streams int
	// Window is how many rows may wait for their answers on one stream.
	Window int
	// Say is told how far the work is, often; may be nil.
	Say func(Summary)

	mu      sync.Mutex
	summary Summary
}

// Do imports until the source ends, ctx ends or something fails. The summary counts what was answered until then. An
// import that ended early may be run again.
func (r *Run) Do(ctx context.Context) (Summary, error) {
	group, ctx := errgroup.WithContext(ctx)
	lanes := make([]chan work, max(1, r.Streams))
	for i := range lanes {
		lane := make(chan work, 16)
		lanes[i] = lane
		group.Go(func() error { return r.lane(ctx, lane) })
	}
	group.Go(func() error {
		defer func() {
			for _, lane := range lanes {
				close(lane)
			}
		}()
		return r.feed(ctx, lanes)
	})
	err := group.Wait()
	r.summary.Ended = err == nil
	return r.summary, err
}

type work struct {
	row    Row
	record *dubanv1.CollectRequest
}

// feed reads the source. A row that the mapping can't turn into a record is refused here and never sent.
func (r *Run) feed(ctx context.Context, lanes []chan work) error {
	for {
		row, err := r.Source.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("input: %w", err)
		}
		record, wrong := r.Mapping.Record(row)
		if len(wrong) > 0 {
			if err := r.settle(row, wrong, 0); err != nil {
				return err
			}
			continue
		}
		hash := row.hash()
		lane := lanes[binary.BigEndian.Uint32(hash[:])%uint32(len(lanes))]
		select {
		case lane <- work{row, record}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lane sends the rows of one stream and matches the answers, which come in the order of sending.
func (r *Run) lane(ctx context.Context, rows <-chan work) error {
	stream, err := r.Open(ctx)
	if err != nil {
		return err
	}
	waiting := make(chan work, max(1, r.Window))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(waiting)
		for {
			var w work
			select {
			case next, more := <-rows:
				if !more {
					return stream.CloseSend()
				}
				w = next
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select {
			case waiting <- w:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			// The reason of a failed Send comes out of Recv.
			if err := stream.Send(w.record); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
	})
	group.Go(func() error {
		for w := range waiting {
			if err := r.answer(stream, w); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

func (r *Run) answer(stream Stream, w work) error {
	answer, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return fault.New(fault.Unavailable, "the node ended the stream before row %d was answered: run the same command again", w.row.Line)
	}
	if err != nil {
		return err
	}
	if answer.RecordId != w.record.RecordId {
		return fault.New(fault.Internal, "the node answered record %q where %q was due", answer.RecordId, w.record.RecordId)
	}
	switch answer.Outcome {
	case dubanv1.CollectOutcome_COLLECT_OUTCOME_TAKEN:
		return r.settle(w.row, nil, 1+len(w.record.GetHistory().GetStages()))
	case dubanv1.CollectOutcome_COLLECT_OUTCOME_ALREADY_THERE:
		return r.settle(w.row, nil, 0)
	case dubanv1.CollectOutcome_COLLECT_OUTCOME_REFUSED:
		return r.settle(w.row, reasons(answer), 0)
	}
	return fault.New(fault.Unsupported, "the node answered record %q with an outcome %d that this program does not know", answer.RecordId, answer.Outcome)
}

func reasons(answer *dubanv1.CollectResponse) fault.List {
	var l fault.List
	for _, v := range answer.Violations {
		l.Add(v.Field, "%s", v.Description)
	}
	if len(l) == 0 {
		l.Add("", "%s", answer.Message)
	}
	return l
}

// settle counts a row, of which so many entries were added.
func (r *Run) settle(row Row, wrong fault.List, entries int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.summary
	s.Rows++
	s.Records += entries
	var err error
	switch {
	case len(wrong) > 0:
		s.Refused++
		err = r.Refused.write(row, wrong)
	case entries == 0:
		s.AlreadyThere++
	default:
		s.Taken++
	}
	if r.Say != nil {
		r.Say(*s)
	}
	return err
}
