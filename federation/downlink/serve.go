package downlink

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	dubanv1 "duban.internal/proto/duban/v1"
)

// stream is one child's stream: a reader that verifies, and a worker that does what the core asks for it, in order.
type stream struct {
	id     uint64
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu   sync.Mutex
	jobs []Effect
	wake chan struct{} // has room for one
}

// maxJobs bounds what waits for a child that doesn't read.
const maxJobs = 4096

func (s *stream) put(e Effect) {
	s.mu.Lock()
	s.jobs = append(s.jobs, e)
	n := len(s.jobs)
	s.mu.Unlock()
	if n > maxJobs {
		s.cancel(fault.New(fault.Exhausted, "%d messages wait to be read", n))
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) take() []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs := s.jobs
	s.jobs = nil
	return jobs
}

// Sync serves one child. A second stream of the same child ends the first: the child has given that one up.
func (d *Downlink) Sync(server grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	caller, err := callerOf(server.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(server.Context())
	defer cancel(nil)
	s := &stream{ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1)}
	d.mu.Lock()
	d.last++
	s.id = d.last
	d.streams[s.id] = s
	d.core.Connected(s.id, caller)
	d.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { // whoever waits for room sees that it is over
		d.mu.Lock()
		defer d.mu.Unlock()
		d.room.Broadcast()
	})
	defer stop()
	go func() { s.cancel(d.receive(s, server)) }()
	err = d.work(s, server)
	d.step(func() {
		delete(d.streams, s.id)
		d.core.Closed(s.id)
	})
	d.abandon(s.id)
	if cause := context.Cause(ctx); cause != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = cause
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	d.cfg.Log.Info("sync ended", "caller", caller.Actor(), "error", err)
	return err
}

func callerOf(ctx context.Context) (identity.Identity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.Identity{}, fault.New(fault.Unauthenticated, "no certificate was shown")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return identity.Identity{}, fault.New(fault.Unauthenticated, "no certificate was shown")
	}
	return identity.FromState(info.State)
}

// receive reads while there is room, until the stream ends.
func (d *Downlink) receive(s *stream, server grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	for {
		if err := d.wait(s); err != nil {
			return err
		}
		m, err := server.Recv()
		if err != nil {
			return err
		}
		o := Open(d.cfg.Tree, m)
		d.step(func() { d.core.Received(s.id, o, d.now()) })
	}
}

func (d *Downlink) wait(s *stream) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.core.Room(s.id) && s.ctx.Err() == nil {
		d.room.Wait()
	}
	return s.ctx.Err()
}

func (d *Downlink) now() int64 { return clock.Micros(d.cfg.Clock.Now()) }

// step lets something happen to the core and hands out what is to be done.
func (d *Downlink) step(happen func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	happen()
	for _, e := range d.core.Effects() {
		switch {
		case e.Commit != nil:
			go d.store(e.Commit) // the core bounds how many
		case e.Hangup != nil:
			if s := d.streams[e.Hangup.Session]; s != nil {
				d.cfg.Log.Warn("sync ended by this side", "session", e.Hangup.Session, "reason", e.Hangup.Err)
				s.put(e) // after what was said before
			}
		case e.Chunk != nil:
			d.chunk(e.Chunk)
		default:
			if s := d.streams[e.session()]; s != nil {
				s.put(e)
			}
		}
	}
	d.room.Broadcast()
}

// session is for whom an effect is to be done.
func (e Effect) session() uint64 {
	switch {
	case e.Load != nil:
		return e.Load.Session
	case e.Send != nil:
		return e.Send.Session
	case e.Compare != nil:
		return e.Compare.Session
	case e.Recall != nil:
		return e.Recall.Session
	case e.Next != nil:
		return e.Next.Session
	}
	return 0
}

// store makes durable what waits, for all streams at once. It ends with the store, not with a stream.
func (d *Downlink) store(w *Commit) {
	ctx := context.Background()
	replicas, commands := make([]error, len(w.Replicas)), make([]error, len(w.Commands))
	var both sync.WaitGroup
	if len(w.Commands) > 0 {
		both.Go(func() { _, commands = d.cfg.Store.Append(ctx, w.Commands...) })
	}
	if len(w.Replicas) > 0 {
		replicas = d.cfg.Store.AppendReplica(ctx, w.Replicas...)
	}
	both.Wait()
	for _, err := range append(replicas[:len(replicas):len(replicas)], commands...) {
		if err != nil {
			d.cfg.Log.Warn("storing what came from below", "error", err)
		}
	}
	d.step(func() { d.core.Stored(w, replicas, commands, d.now()) })
}

// work does what the core asks for a stream, until it ends.
func (d *Downlink) work(s *stream, server grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse]) error {
	for {
		for _, e := range s.take() {
			if err := d.do(s, server, e); err != nil {
				return err
			}
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			for _, e := range s.take() { // why this side hung up, if it did
				if e.Hangup != nil {
					return e.Hangup.Err
				}
			}
			return s.ctx.Err()
		}
	}
}

// do carries out an effect. An error ends the stream.
func (d *Downlink) do(s *stream, server grpc.BidiStreamingServer[dubanv1.SyncRequest, dubanv1.SyncResponse], e Effect) error {
	switch {
	case e.Send != nil:
		return server.Send(e.Send.Message)
	case e.Hangup != nil:
		return e.Hangup.Err
	case e.Load != nil:
		states, err := ReadStates(s.ctx, d.cfg.Store, d.cfg.Tree, e.Load)
		if err != nil {
			return unavailable(err)
		}
		d.step(func() { d.core.Loaded(s.id, states, d.now()) })
	case e.Compare != nil:
		root, next, err := ReadCompare(s.ctx, d.cfg.Store, e.Compare)
		if err != nil {
			return unavailable(err)
		}
		d.step(func() { d.core.Compared(e.Compare, root, next, d.now()) })
	case e.Recall != nil:
		found, err := ReadRecall(s.ctx, d.cfg.Store, d.cfg.Tree, d.cfg.Code, e.Recall)
		if err != nil {
			return unavailable(err)
		}
		d.step(func() { d.core.Recalled(s.id, found) })
	case e.Next != nil:
		letters, err := d.cfg.Letters.Next(s.ctx, e.Next.Child, e.Next.At, e.Next.Bytes)
		if err != nil {
			return unavailable(err)
		}
		d.step(func() { d.core.Nexted(s.id, letters) })
	}
	return nil
}
