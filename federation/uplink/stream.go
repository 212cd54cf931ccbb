package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"duban.internal/federation"
	"duban.internal/node/clock"
	dubanv1 "duban.internal/proto/duban/v1"
)

// stream is one open stream: a reader, a writer, one who takes letters, and one for each attachment that is asked for.
type stream struct {
	ctx      context.Context
	cancel   context.CancelFunc
	client   grpc.BidiStreamingClient[dubanv1.SyncRequest, dubanv1.SyncResponse]
	received chan *dubanv1.SyncResponse
	failed   chan error // has room for one
	send     chan *dubanv1.SyncRequest
	bulk     chan *dubanv1.SyncRequest // goes when nothing else does
	letters  chan *dubanv1.SyncLetter
	took     chan *dubanv1.SyncLetterAck
	parts    sync.WaitGroup

	mu      sync.Mutex
	serving map[uint64]context.CancelFunc
}

const (
	// maxLetters bounds letters that came and are not taken; the parent sends about a MiB of them at a time.
	maxLetters = 8192
	// maxServing bounds the attachments that are given at the same time.
	maxServing = 16
	// maxSend bounds what waits to be sent beside batches and heartbeats.
	maxSend = 2*inFlight + maxLetters
)

// open begins a stream. Whether the other end is there shows when the first answer comes. An error is the node's own.
func (l *link) open(ctx context.Context) error {
	if above := l.u.cfg.Letters; above != nil {
		at, err := above.Positions(ctx)
		if err != nil {
			return fmt.Errorf("positions of letters: %w", err)
		}
		l.core.At(at)
	}
	inside, cancel := context.WithCancel(ctx)
	l.conn.ResetConnectBackoff() // the core's pauses are enough
	client, err := dubanv1.NewSyncServiceClient(l.conn).Sync(inside, grpc.UseCompressor(federation.Compression))
	if err != nil {
		cancel()
		l.close(err.Error())
		return nil
	}
	s := &stream{ctx: inside, cancel: cancel, client: client, received: make(chan *dubanv1.SyncResponse, 2*inFlight),
		failed: make(chan error, 1), send: make(chan *dubanv1.SyncRequest, maxSend), bulk: make(chan *dubanv1.SyncRequest),
		letters: make(chan *dubanv1.SyncLetter, maxLetters), took: make(chan *dubanv1.SyncLetterAck), serving: map[uint64]context.CancelFunc{}}
	s.parts.Go(func() { s.failed <- s.read() })
	s.parts.Go(s.write)
	if l.u.cfg.Letters != nil {
		s.parts.Go(func() { s.takeAll(l.u) })
	}
	l.stream = s
	l.core.Opened(l.u.now())
	return nil
}

// end ends the stream and waits for its parts.
func (s *stream) end() {
	s.cancel()
	s.parts.Wait()
}

func (s *stream) read() error {
	for {
		m, err := s.client.Recv()
		if err != nil {
			return err
		}
		select {
		case s.received <- m:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// write sends what waits. Why it can't is said by the reader's error.
func (s *stream) write() {
	for {
		var m *dubanv1.SyncRequest
		select {
		case m = <-s.send:
		default:
			select {
			case m = <-s.send:
			case m = <-s.bulk:
			case <-s.ctx.Done():
				return
			}
		}
		if s.client.Send(m) != nil {
			return
		}
	}
}

func (s *stream) put(m *dubanv1.SyncRequest) bool {
	select {
	case s.send <- m:
		return true
	default:
		return false
	}
}

func (s *stream) take(m *dubanv1.SyncLetter) bool {
	select {
	case s.letters <- m:
		return true
	default:
		return false
	}
}

// takeAll takes letters in their order. A node that can't record for a while, for its clock is not believed perhaps, tries
// again: the rest of the stream goes on.
func (s *stream) takeAll(u *Uplink) {
	for {
		var m *dubanv1.SyncLetter
		select {
		case m = <-s.letters:
		case <-s.ctx.Done():
			return
		}
		ack, err := u.cfg.Letters.Take(s.ctx, m)
		for pause := firstRetry; err != nil; pause = min(2*pause, longestPause) {
			if s.ctx.Err() != nil {
				return
			}
			u.cfg.Log.Warn("a letter from above can't be taken yet", "error", err)
			if clock.Pause(s.ctx, u.cfg.Clock, pause) != nil {
				return
			}
			ack, err = u.cfg.Letters.Take(s.ctx, m)
		}
		select {
		case s.took <- ack:
		case <-s.ctx.Done():
			return
		}
	}
}

// firstRetry is how long a letter that could not be taken waits; each time it is twice as long.
const firstRetry = time.Second

// serve gives an attachment to who asks from above, or gives up on it.
func (s *stream) serve(files federation.Files, ask *dubanv1.SyncFetch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stop := s.serving[ask.GetId()]; stop != nil || ask.GetCancel() {
		if stop != nil {
			stop()
		}
		return
	}
	problem := ""
	switch {
	case files == nil:
		problem = "this node gives no attachments"
	case len(s.serving) >= maxServing:
		problem = fmt.Sprintf("%d attachments are asked for already: try again later", len(s.serving))
	}
	ctx, stop := context.WithCancel(s.ctx)
	s.serving[ask.GetId()] = stop
	s.parts.Go(func() {
		defer func() {
			stop()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.serving, ask.GetId())
		}()
		if problem == "" {
			problem = s.give(ctx, files, ask)
		}
		if problem != "" {
			_ = s.chunk(ctx, &dubanv1.SyncChunk{Id: ask.GetId(), Offset: ask.GetOffset(), Problem: problem})
		}
	})
}

// errEnough ends the serving of a portion.
var errEnough = errors.New("as much as was asked for")

// give sends the portion that was asked for and says what went wrong, if anything did.
func (s *stream) give(ctx context.Context, files federation.Files, ask *dubanv1.SyncFetch) (problem string) {
	left, all := ask.GetLength(), ask.GetLength() == 0
	said := false
	err := files.Serve(ctx, ask, func(c *dubanv1.SyncChunk) error {
		c.Id = ask.GetId()
		said = said || c.GetProblem() != ""
		if !all {
			if uint64(len(c.Data)) > left {
				c.Data = c.Data[:left]
			}
			left -= uint64(len(c.Data))
		}
		if err := s.chunk(ctx, c); err != nil {
			return err
		}
		if !all && left == 0 {
			return errEnough
		}
		return nil
	})
	if err == nil || errors.Is(err, errEnough) || said || ctx.Err() != nil {
		return ""
	}
	return err.Error()
}

func (s *stream) chunk(ctx context.Context, c *dubanv1.SyncChunk) error {
	select {
	case s.bulk <- &dubanv1.SyncRequest{Message: &dubanv1.SyncRequest_Chunk{Chunk: c}}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
