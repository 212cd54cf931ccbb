package embedded

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
)

// batcher turns the operations of many callers into groups, one raft log each. It takes what is there and waits for no
// timer; while a group is under way the next one gathers, and follows at once when it is worth a raft log of its own.
type batcher struct {
	s     *Store
	room  *semaphore.Weighted // bytes of operations that wait
	slots chan struct{}       // groups under way
	wake  chan struct{}

	mu     sync.Mutex
	queue  []item
	bytes  int // of bodies in queue
	closed bool

	done sync.WaitGroup
}

type item struct {
	op   op
	call *call
	i    int
}

// Bodies of commands live from Append until they are in a raft log.
var bodies sync.Pool

const pooledBody = 4 << 10

func newBody(size int) []byte {
	if size > pooledBody {
		return make([]byte, 0, size)
	}
	if b, ok := bodies.Get().(*[pooledBody]byte); ok {
		return b[:0]
	}
	return new([pooledBody]byte)[:0]
}

func freeBody(b []byte) {
	if cap(b) == pooledBody {
		bodies.Put((*[pooledBody]byte)(b[:pooledBody]))
	}
}

// call is one caller's operations; done is closed when all have results.
type call struct {
	results []result
	left    atomic.Int64
	done    chan struct{}
}

func newBatcher(s *Store, room int64) *batcher {
	return &batcher{s: s, room: semaphore.NewWeighted(room), slots: make(chan struct{}, inFlight), wake: make(chan struct{}, 1)}
}

// submit queues operations and waits for their results.
func (b *batcher) submit(ctx context.Context, ops []op) ([]result, error) {
	weight := int64(0)
	for _, o := range ops {
		weight += int64(len(o.body)) + 64
	}
	if !b.room.TryAcquire(min(weight, b.s.cfg.QueueBytes)) {
		if err := b.room.Acquire(ctx, min(weight, b.s.cfg.QueueBytes)); err != nil {
			return nil, fault.New(fault.Unavailable, "gave up waiting for a place in the queue: %w", err)
		}
	}
	defer b.room.Release(min(weight, b.s.cfg.QueueBytes))
	c := &call{results: make([]result, len(ops)), done: make(chan struct{})}
	c.left.Store(int64(len(ops)))
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, fault.New(fault.Unavailable, "the store is shutting down")
	}
	for i, o := range ops {
		b.queue = append(b.queue, item{o, c, i})
		b.bytes += len(o.body)
	}
	b.mu.Unlock()
	b.poke()
	select {
	case <-c.done:
		return c.results, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "gave up waiting; it may have been committed, ask again with the same key: %w", ctx.Err())
	}
}

func (b *batcher) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// next takes the items of one group, nil where none waits.
func (b *batcher) next() (items []item, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.slots) > 1 && len(b.queue) < worthwhileOps && b.bytes < worthwhileBytes && !b.closed {
		return nil, false // a group is under way, and its end wakes us
	}
	n, size := 0, 0
	for n < len(b.queue) && n < groupOps {
		size += len(b.queue[n].op.body)
		if n > 0 && size > groupBytes {
			break
		}
		n++
	}
	items = b.queue[:n:n]
	for _, it := range items {
		b.bytes -= len(it.op.body)
	}
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
	return items, b.closed
}

func (b *batcher) run() {
	defer b.done.Done()
	for {
		b.slots <- struct{}{}
		items, closed := b.next()
		if len(items) == 0 {
			<-b.slots
			if closed {
				return
			}
			<-b.wake
			continue
		}
		now := clock.Micros(b.s.cfg.Clock.Now())
		size := 64
		for _, it := range items {
			size += len(it.op.body) + 8
		}
		data := groupHeader(make([]byte, 0, size), now, now-b.s.cfg.KeyTTL.Microseconds(), len(items))
		for i := range items {
			data = appendOp(data, items[i].op)
			freeBody(items[i].op.body)
			items[i].op.body = nil
		}
		future := b.s.raft.Apply(data, 0)
		b.done.Add(1)
		go func() {
			defer b.done.Done()
			b.finish(items, future)
		}()
	}
}

// finish waits until a group is durable and applied, and answers.
func (b *batcher) finish(items []item, future raft.ApplyFuture) {
	err := future.Error()
	<-b.slots
	b.poke()
	var out *outcome
	if err == nil {
		switch r := future.Response().(type) {
		case *outcome:
			out = r
		case error:
			err = r
		default:
			err = errors.New("raft gave no outcome")
		}
	}
	if err != nil {
		err = raftFault(err)
	}
	for i, it := range items {
		r := &it.call.results[it.i]
		if err != nil {
			r.err = err
		} else {
			*r = out.results[i]
		}
		if it.call.left.Add(-1) == 0 {
			close(it.call.done)
		}
	}
}

// close stops taking operations, and waits until those taken are answered.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.poke()
	b.done.Wait()
}

func raftFault(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return fault.New(fault.NotLeader, "this replica does not lead: %w", err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return fault.New(fault.Unavailable, "leadership was lost on the way; it may have been committed, ask again with the same key: %w", err)
	case errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return fault.New(fault.Unavailable, "the store is not taking commands now: %w", err)
	}
	return fault.New(fault.Unavailable, "the store failed and takes no more commands: %w", err)
}
