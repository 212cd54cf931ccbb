package intake

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	dubanv1 "duban.internal/proto/duban/v1"
)

// DefaultWindow is how many records of one collection are under way at once: enough to fill the store's commits.
const DefaultWindow = 1024

// Collect takes records from recv until io.EOF and answers each with send, in order. Records of one case are decided one
// after the other, as they came; those of other cases beside them. A record that is refused stops nothing; what the node
// can't do (fault.NotLeader, Unavailable, ...) ends the collection with that error, and records that were not answered may
// be sent again.
func (in *Intake) Collect(ctx context.Context, caller identity.Identity, recv func() (*dubanv1.CollectRequest, error),
	send func(*dubanv1.CollectResponse) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := collection{in: in, ctx: ctx, caller: caller, lanes: make(map[string]*lane)}
	queue := make(chan *item, in.Window) // bounds what is under way
	go func() {
		// It may wait in recv for longer than the collection lasts: whoever called Collect ends that.
		defer close(queue)
		if err := guarded(func() error { return c.receive(recv, queue) }); err != nil {
			cancel(err)
		}
	}()
	var sending sync.Mutex
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for it := range queue {
			<-it.done
			err := guarded(func() error {
				sending.Lock()
				defer sending.Unlock()
				if it.err == nil && ctx.Err() == nil {
					return send(it.answer)
				}
				return it.err
			})
			if err != nil {
				cancel(err)
			}
		}
	}()
	select {
	case <-sent:
	case <-ctx.Done():
	}
	sending.Lock() // nothing is sent once Collect has returned
	defer sending.Unlock()
	return context.Cause(ctx)
}

// collection is one call of Collect.
type collection struct {
	in     *Intake
	ctx    context.Context
	caller identity.Identity

	mu    sync.Mutex
	lanes map[string]*lane // cases that have records under way
}

// lane are the records of one case, in order.
type lane struct{ waiting []*item }

// item is one record on its way.
type item struct {
	request *dubanv1.CollectRequest
	answer  *dubanv1.CollectResponse
	err     error // of the node, not of the record
	done    chan struct{}
}

func (c *collection) receive(recv func() (*dubanv1.CollectRequest, error), queue chan<- *item) error {
	for {
		request, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		it := &item{request: request, done: make(chan struct{})}
		select {
		case queue <- it:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
		c.enter(it)
	}
}

// enter puts a record behind those of its case.
func (c *collection) enter(it *item) {
	id := caseOf(it.request)
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lanes[id]; l != nil {
		l.waiting = append(l.waiting, it)
		return
	}
	c.lanes[id] = &lane{waiting: []*item{it}}
	go c.work(id)
}

func (c *collection) work(id string) {
	for {
		c.mu.Lock()
		l := c.lanes[id]
		if len(l.waiting) == 0 {
			delete(c.lanes, id)
			c.mu.Unlock()
			return
		}
		it := l.waiting[0]
		l.waiting = l.waiting[1:]
		c.mu.Unlock()
		it.err = guarded(func() (err error) {
			it.answer, err = c.in.collected(c.ctx, c.caller, it.request)
			return err
		})
		close(it.done)
	}
}

// guarded makes an error of a panic, for it is in a goroutine of ours that nobody else guards: this collection ends with
// it, and whoever serves logs it in full and tells the caller nothing of it; the node goes on.
func guarded(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a collection: %v\n%s", r, debug.Stack())
		}
	}()
	return do()
}

func caseOf(r *dubanv1.CollectRequest) string {
	switch {
	case r.GetCase() != nil:
		return r.GetCase().GetCaseId()
	case r.GetStage() != nil:
		return r.GetStage().GetCaseId()
	case r.GetEvidence() != nil:
		return r.GetEvidence().GetCaseId()
	case r.GetHistory() != nil:
		return r.GetHistory().GetCase().GetCaseId()
	}
	return r.GetExplanation().GetCaseId()
}

// collected decides one record.
func (in *Intake) collected(ctx context.Context, caller identity.Identity, r *dubanv1.CollectRequest) (*dubanv1.CollectResponse, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	receipt, err := in.collect(ctx, caller, r)
	answer := &dubanv1.CollectResponse{RecordId: r.GetRecordId(), Receipt: receipt}
	switch {
	case err == nil && receipt.GetDuplicate():
		answer.Outcome = dubanv1.CollectOutcome_COLLECT_OUTCOME_ALREADY_THERE
	case err == nil:
		answer.Outcome = dubanv1.CollectOutcome_COLLECT_OUTCOME_TAKEN
	case refused(err):
		answer.Outcome = dubanv1.CollectOutcome_COLLECT_OUTCOME_REFUSED
		answer.Message = err.Error()
		if e, ok := errors.AsType[*fault.Error](err); ok {
			answer.Message = e.Msg
		}
		for _, f := range fault.Fields(err) {
			answer.Violations = append(answer.Violations, &dubanv1.FieldViolation{Field: f.Field, Description: f.Description})
		}
	default:
		return nil, fmt.Errorf("record %.80q: %w", r.GetRecordId(), err)
	}
	return answer, nil
}

func (in *Intake) collect(ctx context.Context, caller identity.Identity, r *dubanv1.CollectRequest) (*dubanv1.Receipt, error) {
	var c *command
	switch m := r.GetRecord().(type) {
	case *dubanv1.CollectRequest_Case:
		c = in.opening(caller, m.Case, r.GetOccurredUs())
	case *dubanv1.CollectRequest_Stage:
		c = in.stage(caller, m.Stage)
	case *dubanv1.CollectRequest_Evidence:
		c = in.evidence(caller, m.Evidence, r.GetOccurredUs())
	case *dubanv1.CollectRequest_Explanation:
		c = in.explanation(caller, m.Explanation, r.GetOccurredUs())
	case *dubanv1.CollectRequest_History:
		if m.History.GetCase() != nil {
			c = in.history(caller, m.History, r.GetOccurredUs())
		}
	}
	var bad fault.List
	if c == nil {
		bad.Add("record", "is missing: expected a case, a stage, evidence, an explanation or the history of a case")
	}
	switch n := len(r.GetRecordId()); {
	case n == 0:
		bad.Add("record_id", "is missing: expected the record's mark in your own system")
	case n > maxRecordID:
		bad.Add("record_id", "%d bytes, at most %d are allowed", n, maxRecordID)
	}
	if number, ok := unknown(r.ProtoReflect()); ok {
		bad.Add("record", "has a field of number %d: expected only fields of this version", number)
	}
	if err := bad.Err(fault.Invalid, "the record can't be taken"); err != nil {
		return nil, err
	}
	// The record's own hash never expires: whoever sends it again under another mark, or years later, adds nothing. The
	// mark with other content is refused for as long as the store keeps keys.
	id := r.GetRecordId()
	r.RecordId = ""
	sum, err := digest(caller.Actor(), r)
	r.RecordId = id
	if err != nil {
		return nil, err
	}
	c.key, c.request, c.natural = "record/"+r.GetRecordId(), sum, "record/"+hex.EncodeToString(sum[:])
	return in.do(ctx, c)
}
