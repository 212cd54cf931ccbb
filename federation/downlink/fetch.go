package downlink

import (
	"context"

	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// fetch is a request for a portion of an attachment that a child has not yet given.
type fetch struct {
	session uint64
	chunks  chan *dubanv1.SyncChunk // has room for a portion
	lost    chan struct{}           // closed when the stream ended, or the child gives more than was asked for
	over    bool
}

const (
	// portion is how much of an attachment is asked for at once: what may lie here unread.
	portion = 1 << 20
	// maxChunks bounds the chunks of a portion.
	maxChunks = 256
)

// Fetch is federation.Fetcher.
func (d *Downlink) Fetch(ctx context.Context, child jurisdiction.Code, id journal.ID, sha256 [32]byte, offset uint64,
	sink func(*dubanv1.SyncChunk) error) error {
	for {
		ask := &dubanv1.SyncFetch{Journal: id[:], Sha256: sha256[:], Offset: offset, Length: portion}
		end, err := d.portion(ctx, child, ask, &offset, sink)
		if err != nil || end {
			return err
		}
	}
}

// portion asks once and hands on what comes; end says that nothing follows.
func (d *Downlink) portion(ctx context.Context, child jurisdiction.Code, ask *dubanv1.SyncFetch, offset *uint64,
	sink func(*dubanv1.SyncChunk) error) (end bool, err error) {
	f := &fetch{chunks: make(chan *dubanv1.SyncChunk, maxChunks), lost: make(chan struct{})}
	sent := false
	d.step(func() {
		var ok bool
		if f.session, ok = d.core.Open(child); !ok {
			return
		}
		d.asked++
		ask.Id = d.asked
		if sent = d.core.Ask(f.session, ask); sent {
			d.fetches[ask.Id] = f
		}
	})
	if !sent {
		return false, fault.New(fault.Unavailable, "%s is not connected", child)
	}
	finished := false
	defer func() {
		d.step(func() {
			delete(d.fetches, ask.Id)
			if !finished {
				d.core.Ask(f.session, &dubanv1.SyncFetch{Id: ask.Id, Cancel: true})
			}
		})
	}()
	last := *offset + ask.GetLength()
	for {
		select {
		case c := <-f.chunks:
			if c.GetProblem() != "" {
				finished = true
				return false, fault.New(fault.NotFound, "%s can't give it: %s", child, c.GetProblem())
			}
			next := c.GetOffset() + uint64(len(c.GetData()))
			if c.GetOffset() != *offset || next > last || next > c.GetSize() {
				return false, fault.New(fault.Corrupt, "%s gave bytes from %d to %d of %d, expected from %d to %d at most",
					child, c.GetOffset(), next, c.GetSize(), *offset, last)
			}
			if err := sink(c); err != nil {
				return false, err
			}
			*offset = next
			if next == c.GetSize() || next == last {
				finished = true
				return next == c.GetSize(), nil
			}
			if len(c.GetData()) == 0 {
				return false, fault.New(fault.Corrupt, "%s gave an empty chunk at %d of %d", child, next, c.GetSize())
			}
		case <-f.lost:
			finished = true
			return false, fault.New(fault.Unavailable, "the stream of %s ended", child)
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// chunk hands a chunk to who asked for it. The core's lock is held.
func (d *Downlink) chunk(c *Chunk) {
	f := d.fetches[c.Chunk.GetId()]
	if f == nil || f.session != c.Session || f.over {
		return // given up meanwhile
	}
	select {
	case f.chunks <- c.Chunk:
	default:
		f.over = true
		close(f.lost)
	}
}

// abandon ends what was asked of a stream that ended.
func (d *Downlink) abandon(session uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.fetches {
		if f.session == session && !f.over {
			f.over = true
			close(f.lost)
		}
	}
}
