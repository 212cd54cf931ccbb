package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// link drives a Core: the stream to the parent, or one past it.
type link struct {
	u       *Uplink
	node    topology.Node     // the other end
	around  jurisdiction.Code // likewise, where it is not the parent
	portion CoreConfig
	source  Source
	conn    *grpc.ClientConn

	core   *Core
	stream *stream // nil while there is none
	keep   map[keepKey]*Keep
	kinds  *Announce
	last   witnessRun    // what the node at the other end countersigned past the parent
	moved  chan struct{} // has room for one: its word came
	kept   chan error    // nil while nothing is being stored
}

type keepKey struct {
	journal journal.ID
	by      jurisdiction.Code
}

func (u *Uplink) link(n topology.Node, address string, config *tls.Config, portion CoreConfig) (*link, error) {
	options := append(append([]grpc.DialOption(nil), u.cfg.DialOptions...),
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(federation.MaxMessage), grpc.MaxCallSendMsgSize(federation.MaxMessage)),
		grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(8<<20))
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return nil, fault.New(fault.Invalid, "node %s at %s: %w", n.Code, address, err)
	}
	return &link{u: u, node: n, portion: portion, conn: conn, keep: map[keepKey]*Keep{}, moved: make(chan struct{}, 1),
		source: Source{Store: u.cfg.Store, Key: u.cfg.Key}}, nil
}

// run sends until ctx ends or the store fails.
func (l *link) run(ctx context.Context) error {
	l.core = NewCore(l.portion)
	defer func() {
		l.closeStream()
		if l.kept != nil {
			if err := <-l.kept; err != nil {
				l.u.cfg.Log.Info("what the nodes above said is not kept", "error", err)
			}
			l.kept = nil
		}
	}()
	c := l.u.cfg
	never := make(chan time.Time)
	var dial, tick, silence clock.Timer
	var tickAt int64
	stop := func(t *clock.Timer) {
		if t.Stop != nil {
			t.Stop()
		}
		*t = clock.Timer{C: never}
	}
	for _, t := range []*clock.Timer{&dial, &tick, &silence} {
		stop(t)
		defer func() { stop(t) }()
	}
	for {
		watch := c.Store.Watch()
		for _, info := range c.Store.Journals() {
			l.core.Grown(info.ID, info.Size)
		}
		for effects := l.core.Effects(); len(effects) > 0; effects = l.core.Effects() {
			for _, e := range effects {
				if e.Dial != nil {
					stop(&dial)
					dial = c.Clock.Patience(e.Dial.After)
					continue
				}
				if err := l.do(ctx, e); err != nil {
					return err
				}
			}
		}
		if err := l.keepAll(ctx); err != nil {
			return err
		}
		l.report()
		if at, ok := l.core.NextTick(); ok && (at != tickAt || tick.C == never) {
			stop(&tick)
			tick, tickAt = c.Clock.Timer(time.Duration(max(at-l.u.now(), 0))*time.Microsecond), at
		}
		switch waiting := l.stream != nil && l.core.Waiting(); {
		case !waiting:
			stop(&silence)
		case silence.C == never:
			silence = c.Clock.Patience(c.Silence)
		}
		var received chan *dubanv1.SyncResponse
		var failed chan error
		var took chan *dubanv1.SyncLetterAck
		if l.stream != nil {
			received, failed, took = l.stream.received, l.stream.failed, l.stream.took
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-watch:
		case <-dial.C:
			stop(&dial)
			if err := l.open(ctx); err != nil {
				return err
			}
		case <-tick.C:
			stop(&tick)
			l.core.Ticked(l.u.now())
		case <-silence.C:
			l.close(fmt.Sprintf("no answer for %v", c.Silence))
		case m := <-received:
			stop(&silence)
			l.core.Received(m, l.u.now())
			for more := true; more; { // what else is there shares one commit of acknowledgements
				select {
				case m := <-received:
					l.core.Received(m, l.u.now())
				default:
					more = false
				}
			}
		case err := <-l.kept:
			l.kept = nil
			if err != nil {
				return fmt.Errorf("keeping what the nodes above said: %w", err)
			}
		case a := <-took:
			l.core.Took(a)
		case err := <-failed:
			l.close(err.Error())
		}
	}
}

func (l *link) closeStream() {
	if l.stream != nil {
		l.stream.end()
		l.stream = nil
	}
}

func (l *link) close(reason string) {
	l.closeStream()
	l.u.cfg.Log.Warn("sync with a node above ended", "node", string(l.node.Code), "reason", reason)
	l.core.Closed(reason)
}

// do carries out an effect. An error is the store's and ends the uplink; the stream's failures begin it anew.
func (l *link) do(ctx context.Context, e Effect) error {
	switch {
	case e.Keep != nil:
		l.keep[keepKey{e.Keep.Journal, e.Keep.By}] = e.Keep
	case e.Announce != nil:
		if l.around == "" {
			l.kinds = e.Announce
		}
	case l.stream == nil: // of a stream that is gone
	case e.Send != nil:
		if !l.stream.put(e.Send) {
			l.close("too much waits to be sent")
		}
	case e.Load != nil:
		entries, note, err := l.source.Load(ctx, e.Load)
		if err != nil {
			return l.broken(e.Load.Journal, err)
		}
		l.core.Loaded(e.Load.Journal, e.Load.From, entries, note)
	case e.Beat != nil:
		point, note, ok, err := l.source.Stamp(ctx, e.Beat.Journal)
		if err != nil {
			return l.broken(e.Beat.Journal, err)
		}
		if ok {
			l.core.Stamped(e.Beat.Journal, point, note, l.u.now())
		}
	case e.Take != nil:
		if l.u.cfg.Letters != nil && !l.stream.take(e.Take) {
			l.close("letters come faster than they are taken")
		}
	case e.Serve != nil:
		l.stream.serve(l.u.cfg.Files, e.Serve)
	case e.Hangup != "":
		l.close(e.Hangup)
	}
	return nil
}

// broken goes on without a journal whose stored bytes are not what was hashed; other errors end the uplink.
func (l *link) broken(id journal.ID, err error) error {
	if !fault.Is(err, fault.Corrupt) {
		return err
	}
	l.u.cfg.Log.Error("a journal can't be read", "journal", id.String(), "error", err)
	l.core.Broken(id, err.Error())
	return nil
}

// keepAll begins to store the last word of each journal in one commit, where none is on its way. Nothing waits for it: what
// is lost of it is said again.
func (l *link) keepAll(ctx context.Context) error {
	if l.kept != nil {
		return nil
	}
	said := map[jurisdiction.Code]int64{}
	changes, err := l.changes(ctx, said)
	if err != nil || len(changes) == 0 {
		return err
	}
	kept := make(chan error, 1)
	l.kept = kept
	go func() {
		_, errs := l.u.cfg.Store.Append(ctx, store.Command{Changes: changes})
		err := errors.Join(errs...)
		if err == nil {
			l.u.mu.Lock()
			for by, at := range said {
				l.u.say(by, at, l.around == "")
			}
			l.u.mu.Unlock()
		}
		kept <- err
	}()
	return nil
}

// changes are the rows of what was said; said gets the times of own checkpoints that nodes above the parent countersigned.
func (l *link) changes(ctx context.Context, said map[jurisdiction.Code]int64) (changes []store.Change, err error) {
	u, now := l.u, l.u.now()
	own := u.cfg.Store.Own()
	if a := l.kinds; a != nil {
		l.kinds = nil
		u.mu.Lock()
		same := u.status.Kinds != nil && fmt.Sprint(u.status.Kinds) == fmt.Sprint(a.Kinds)
		u.status.Kinds = append([]uint32{}, a.Kinds...)
		u.mu.Unlock()
		if !same {
			changes = append(changes, store.Change{Table: federation.Announced, Owner: own, Row: federation.Announcement(a.Kinds, now)})
		}
	}
	for _, k := range l.keep {
		changes = append(changes, k.Row(l.around, now))
		if k.Journal != own {
			continue
		}
		switch {
		case k.By != "" || l.around != "":
			by := k.By
			if by == "" {
				by = l.around
				changes = append(changes, l.last.rows(own, by, k)...)
			}
			said[by] = k.Time
		default:
			shown, err := l.shown(ctx, k.Size)
			if err != nil {
				return nil, err
			}
			changes = append(changes, shown...)
		}
	}
	clear(l.keep)
	return changes, nil
}

// shown drops what was kept to be shown to the parent, up to a size that the parent has acknowledged.
func (l *link) shown(ctx context.Context, size uint64) (changes []store.Change, err error) {
	for _, code := range l.source.Ancestors {
		rows, err := l.source.Store.Scan(ctx, l.source.Store.Own(), federation.Witness, []any{string(code)}, 64)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if at, _ := row[1].(int64); row[0] == string(code) && uint64(at) <= size {
				changes = append(changes, store.Change{Table: federation.Witness, Owner: l.source.Store.Own(), Delete: true, Row: row[:2:2]})
			}
		}
	}
	return changes, nil
}

// witnessRun thins what a node above countersigned past the parent.
type witnessRun struct {
	size  uint64
	begun int64
}

// rows keep the countersigned checkpoint of a size that was not countersigned before: the earliest counts.
func (r *witnessRun) rows(own journal.ID, by jurisdiction.Code, k *Keep) (changes []store.Change) {
	if k.Size <= r.size {
		return nil
	}
	if r.size > 0 && k.Time-r.begun < federation.WitnessEvery {
		changes = append(changes, store.Change{Table: federation.Witness, Owner: own, Delete: true, Row: store.Row{string(by), int64(r.size)}})
	} else {
		r.begun = k.Time
	}
	r.size = k.Size
	return append(changes, store.Change{Table: federation.Witness, Owner: own,
		Row: store.Row{string(by), int64(k.Size), k.Time, k.Time, k.Note}})
}

func (l *link) report() {
	s := l.core.Status()
	u := l.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if l.around != "" {
		for i := range u.status.Above {
			if a := &u.status.Above[i]; a.Code == l.around {
				a.Connected, a.Problem = s.Connected, s.Problem
			}
		}
		return
	}
	if s.Connected && !u.status.Connected {
		u.cfg.Log.Info("sync with the parent begun", "parent", string(l.node.Code), "skew_us", s.Skew)
	}
	s.Kinds, s.Above = u.status.Kinds, u.status.Above
	u.status = s
}
