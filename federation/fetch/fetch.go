package fetch

import (
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"duban.internal/node/attachment"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// transfers bounds how many attachments come in at once.
const transfers = 8

// Fetcher brings attachments from below. Its methods may be called from many goroutines.
type Fetcher struct {
	cfg   Config
	slots chan struct{}

	mu     sync.Mutex
	coming map[[32]byte]*transfer

	done  *prometheus.CounterVec
	bytes prometheus.Counter
}

// transfer is one that others may wait for.
type transfer struct {
	over chan struct{}
	err  error
}

// NewFetcher makes one. Kind of errors: fault.Invalid.
func NewFetcher(cfg Config) (*Fetcher, error) {
	cfg, err := cfg.prepared()
	f := &Fetcher{cfg: cfg, slots: make(chan struct{}, transfers), coming: map[[32]byte]*transfer{},
		done: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "duban_fetch_attachments_total",
			Help: "Attempts to bring an attachment from a node below, by outcome."}, []string{"outcome"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "duban_fetch_bytes_total", Help: "Bytes of attachments that came from nodes below."})}
	if err == nil && cfg.Meter != nil {
		cfg.Meter.MustRegister(f.done, f.bytes)
	}
	return f, err
}

// Fetch makes an attachment durable here that an entry of a journal below names; what is here already is not asked for.
// Those who want the same bytes share one transfer. Kinds of errors: fault.Invalid, NotFound where nobody may or can give
// it, Unavailable where the child is not there, Corrupt where it gave other bytes. What came before an error is kept for
// the next attempt.
func (f *Fetcher) Fetch(ctx context.Context, id journal.ID, sha []byte) error {
	child, err := f.cfg.allowed(ctx, id, sha)
	if err != nil {
		return err
	}
	return f.fetch(ctx, id, child, [32]byte(sha))
}

// Bring is Fetch where it isn't known whose entry names the attachment: the nearest one below.
func (f *Fetcher) Bring(ctx context.Context, sha []byte) error {
	if _, err := attachment.Address(sha); err != nil {
		return err
	}
	if _, ok := f.cfg.Files.Has(sha); ok {
		return nil
	}
	err := error(fault.New(fault.NotFound, "no entry of a journal here names attachment %x", sha))
	for _, n := range f.cfg.Tree.All() {
		if n.Code == f.cfg.Code || !f.cfg.Tree.Within(n.Code, f.cfg.Code) {
			continue
		}
		named, failed := f.cfg.Named(ctx, n.Journal, sha)
		if failed != nil {
			return failed
		}
		if !named {
			continue
		}
		if err = f.Fetch(ctx, n.Journal, sha); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (f *Fetcher) fetch(ctx context.Context, id journal.ID, child jurisdiction.Code, sum [32]byte) error {
	for {
		if _, ok := f.cfg.Files.Has(sum[:]); ok {
			return nil
		}
		if child == "" || f.cfg.Below == nil {
			return fault.New(fault.NotFound, "attachment %x should be here and is not", sum)
		}
		f.mu.Lock()
		t, under := f.coming[sum]
		if !under {
			t = &transfer{over: make(chan struct{})}
			f.coming[sum] = t
		}
		f.mu.Unlock()
		if !under {
			t.err = f.transfer(ctx, id, child, sum)
			f.mu.Lock()
			delete(f.coming, sum)
			f.mu.Unlock()
			close(t.over)
			f.done.WithLabelValues(outcome(t.err)).Inc()
			return t.err
		}
		select {
		case <-t.over:
		case <-ctx.Done():
			return ctx.Err()
		}
		if t.err == nil || !errors.Is(t.err, context.Canceled) && !errors.Is(t.err, context.DeadlineExceeded) {
			return t.err
		}
		// Whoever began it has given up: this one goes on.
	}
}

func outcome(err error) string {
	if err == nil {
		return "brought"
	}
	return fault.Of(err).String()
}

// transfer brings one attachment, and goes on after a break as long as something comes.
func (f *Fetcher) transfer(ctx context.Context, id journal.ID, child jurisdiction.Code, sum [32]byte) (err error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p, err := f.cfg.Files.Resume(sum[:])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	whole := uint64(0)
	for {
		before := p.Size()
		err = f.cfg.Below.Fetch(ctx, child, id, sum, before, func(c *dubanv1.SyncChunk) error {
			if c.GetOffset() != p.Size() || c.GetSize() == 0 || whole != 0 && c.GetSize() != whole || p.Size()+uint64(len(c.GetData())) > c.GetSize() {
				return fault.New(fault.Corrupt, "attachment %x: %s gave %d bytes at %d of %d, expected were bytes at %d of %d", sum, child,
					len(c.GetData()), c.GetOffset(), c.GetSize(), p.Size(), whole)
			}
			whole = c.GetSize()
			n, err := p.Write(c.GetData())
			f.bytes.Add(float64(n))
			return err
		})
		switch {
		case err == nil && whole != 0 && p.Size() == whole:
			return p.Finish(ctx)
		case err == nil:
			return fault.New(fault.Unavailable, "attachment %x: %s gave %d of %d bytes", sum, child, p.Size(), whole)
		case fault.Is(err, fault.Corrupt), fault.Is(err, fault.NotFound) && p.Size() > 0 && f.beyond(ctx, id, child, sum, p.Size()):
			// What is here can't be continued: it is checked, and dropped where it is wrong.
			return errors.Join(err, p.Finish(ctx))
		case ctx.Err() != nil, !fault.Is(err, fault.Unavailable), p.Size() == before:
			return err
		}
	}
}

// beyond says whether what came is longer than the attachment: a child that gave other bytes before is not held up by them.
func (f *Fetcher) beyond(ctx context.Context, id journal.ID, child jurisdiction.Code, sum [32]byte, have uint64) bool {
	size, enough := uint64(0), errors.New("the length is known")
	err := f.cfg.Below.Fetch(ctx, child, id, sum, 0, func(c *dubanv1.SyncChunk) error {
		size = c.GetSize()
		return enough
	})
	return errors.Is(err, enough) && size < have
}
