package fetch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/node/attachment"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Follower is the name of the cursor of Evidence.
const Follower = "evidence"

// Pauses between attempts double from the first to the longest, by the node's clock.
const (
	firstRetry   = 30 * time.Second
	longestRetry = 30 * time.Minute
)

// EvidenceConfig is what an Evidence is made of.
type EvidenceConfig struct {
	Store EvidenceStore
	Files *attachment.Files
	Clock clock.Clock
	// Fetch brings one attachment: Fetcher.Fetch.
	Fetch func(ctx context.Context, id journal.ID, sha256 []byte) error
	// OfCase lists what a case's evidence and documents name; see OfCase.
	OfCase func(ctx context.Context, id journal.ID, caseID string) ([][]byte, error)
	Log    *slog.Logger // nil for none
}

// EvidenceStore is what an Evidence needs of a store.
type EvidenceStore interface {
	Own() journal.ID
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Journal(id journal.ID) (store.Info, bool)
	Cursor(ctx context.Context, follower string, id journal.ID) (uint64, error)
	Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error)
	Watch() <-chan struct{}
	Lease(ctx context.Context) (context.Context, error)
}

// want is a row of Wanted.
type want struct {
	next, attempts, since int64
	journal               journal.ID
	sha                   [32]byte
	problem               string
}

func wantOf(row store.Row) want {
	return want{next: row[0].(int64), journal: journal.ID(row[1].([]byte)), sha: [32]byte(row[2].([]byte)), attempts: row[3].(int64),
		since: row[4].(int64), problem: row[5].(string)}
}

func (w want) put(own journal.ID) store.Change {
	return store.Change{Table: Wanted, Owner: own, Row: store.Row{w.next, w.journal[:], w.sha[:], w.attempts, w.since, w.problem}}
}

func (w want) drop(own journal.ID) store.Change {
	return store.Change{Table: Wanted, Owner: own, Row: store.Row{w.next, w.journal[:], w.sha[:]}, Delete: true}
}

// key names a want, however often it was tried.
func (w want) key() string { return string(w.journal[:]) + string(w.sha[:]) }

// wanted decides what a run of the own journal's entries makes this node want: the evidence of each case whose level 2 or
// above it opened.
func (e *Evidence) wanted(ctx context.Context, entries []journal.Entry, now int64) (out []store.Change, err error) {
	seen := map[string]bool{}
	for i := range entries {
		if entries[i].Kind != uint32(dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED) || entries[i].Erased {
			continue
		}
		var m dubanv1.LevelOpened
		if err := proto.Unmarshal(entries[i].Payload, &m); err != nil {
			e.cfg.Log.Error("a level opened can't be read", slog.Uint64("entry", entries[i].Number), slog.Any("error", err))
			continue
		}
		id, err := journal.IDFrom(m.GetJournal())
		if err != nil || m.GetLevel() < 2 || id == e.own || m.GetCaseId() == "" {
			continue
		}
		if _, held := e.cfg.Store.Journal(id); !held {
			continue // nothing of it has come
		}
		shas, err := e.cfg.OfCase(ctx, id, m.GetCaseId())
		if err != nil {
			return nil, fmt.Errorf("attachments of case %s of journal %s: %w", m.GetCaseId(), id, err)
		}
		for _, sha := range shas {
			if len(sha) != 32 {
				continue
			}
			w := want{next: now, since: now, journal: id, sha: [32]byte(sha)}
			if _, here := e.cfg.Files.Has(sha); !here && !seen[w.key()] {
				seen[w.key()] = true
				out = append(out, w.put(e.own))
			}
		}
	}
	return out, nil
}

// settled is what becomes of a want after an attempt.
func (e *Evidence) settled(w want, failed error, now int64) []store.Change {
	changes := []store.Change{w.drop(e.own)}
	if failed == nil {
		return changes
	}
	pause := longestRetry
	if w.attempts < 10 {
		pause = min(longestRetry, firstRetry<<w.attempts)
	}
	w.next, w.attempts, w.problem = now+pause.Microseconds(), w.attempts+1, failed.Error()
	return append(changes, w.put(e.own))
}

// due lists what may be tried now, and says when the next may be; never where nothing waits.
func (e *Evidence) due(ctx context.Context, now int64, busy map[string]bool) (out []want, next int64, err error) {
	rows, err := e.cfg.Store.Scan(ctx, e.own, Wanted, nil, 2*transfers)
	if err != nil {
		return nil, never, err
	}
	next = never
	seen := map[string]bool{}
	for _, row := range rows {
		w := wantOf(row)
		switch {
		case busy[w.key()] || seen[w.key()]:
		case w.next > now:
			return out, min(next, w.next), nil
		case len(busy)+len(out) < transfers:
			seen[w.key()] = true
			out = append(out, w)
		}
	}
	return out, next, nil
}

const never = math.MaxInt64

// Waiting is an attachment that is wanted and not here.
type Waiting struct {
	Journal  journal.ID
	SHA256   [32]byte
	Since    int64 // microseconds
	Attempts int
	Problem  string // of the last attempt; empty for none
}

// Waiting lists what is wanted and not here, up to most: for status.
func (e *Evidence) Waiting(ctx context.Context, most int) ([]Waiting, error) {
	rows, err := e.cfg.Store.Scan(ctx, e.own, Wanted, nil, most)
	if err != nil {
		return nil, err
	}
	out := make([]Waiting, len(rows))
	for i, row := range rows {
		w := wantOf(row)
		out[i] = Waiting{Journal: w.journal, SHA256: w.sha, Since: w.since, Attempts: int(w.attempts), Problem: w.problem}
	}
	return out, nil
}

// Evidence copies the evidence of escalated alerts: a follower of the own journal that wants attachments, and a worker that
// brings them.
type Evidence struct {
	cfg EvidenceConfig
	own journal.ID

	known           bool
	committed, read uint64
	busy            map[string]bool
	results         chan result
}

type result struct {
	want want
	err  error
}

// NewEvidence makes one; Run starts it. Kind of errors: fault.Invalid.
func NewEvidence(cfg EvidenceConfig) (*Evidence, error) {
	var bad fault.List
	for _, f := range []struct {
		name    string
		missing bool
	}{{"Store", cfg.Store == nil}, {"Files", cfg.Files == nil}, {"Clock", cfg.Clock == nil}, {"Fetch", cfg.Fetch == nil}, {"OfCase", cfg.OfCase == nil}} {
		if f.missing {
			bad.Add(f.name, "is missing")
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Evidence{cfg: cfg, busy: map[string]bool{}, results: make(chan result, transfers)}
	if cfg.Store != nil {
		e.own = cfg.Store.Own()
	}
	return e, bad.Err(fault.Invalid, "evidence")
}

const (
	followBytes = 1 << 20
	lazily      = 10_000 // entries without a level that may pass before the cursor is moved for them alone
	retryPause  = time.Second
)

// Run works while this replica leads, waits for the lease while it doesn't, and returns when ctx ends, after its transfers.
func (e *Evidence) Run(ctx context.Context) error {
	for {
		lead, err := e.cfg.Store.Lease(ctx)
		if err == nil {
			err = e.lead(lead)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			e.cfg.Log.Warn("the copying of evidence waits", slog.Any("error", err))
		}
		if clock.Pause(ctx, e.cfg.Clock, retryPause) != nil {
			return nil
		}
	}
}

func (e *Evidence) lead(ctx context.Context) error {
	e.known = false
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for len(e.busy) > 0 {
			delete(e.busy, (<-e.results).want.key())
		}
	}()
	for {
		watch := e.cfg.Store.Watch()
		more, next, err := e.step(ctx)
		switch {
		case ctx.Err() != nil, fault.Is(err, fault.NotLeader):
			return err
		case err != nil:
			e.cfg.Log.Error("copying evidence", slog.Any("error", err))
			if clock.Pause(ctx, e.cfg.Clock, retryPause) != nil {
				return nil
			}
			continue
		case more:
			continue
		}
		if err := e.wait(ctx, watch, next); err != nil {
			return err
		}
	}
}

// wait waits for a commit, a deadline or the end of a transfer, which it notes.
func (e *Evidence) wait(ctx context.Context, watch <-chan struct{}, next int64) error {
	var timer clock.Timer
	if next != never {
		timer = e.cfg.Clock.Timer(clock.Time(next).Sub(e.cfg.Clock.Now()))
		defer timer.Stop()
	}
	select {
	case <-watch:
	case <-timer.C:
	case <-ctx.Done():
	case r := <-e.results:
		delete(e.busy, r.want.key())
		if ctx.Err() != nil {
			return nil
		}
		if r.err != nil {
			e.cfg.Log.Warn("evidence could not be copied", slog.String("journal", r.want.journal.String()),
				slog.String("sha256", fmt.Sprintf("%x", r.want.sha)), slog.Int64("attempts", r.want.attempts+1), slog.Any("error", r.err))
		}
		_, errs := e.cfg.Store.Append(ctx, store.Command{Changes: e.settled(r.want, r.err, clock.Micros(e.cfg.Clock.Now()))})
		return errs[0]
	}
	return nil
}

// step follows one run of entries and begins what may be begun. more says that there is more to follow.
func (e *Evidence) step(ctx context.Context) (more bool, next int64, err error) {
	now := clock.Micros(e.cfg.Clock.Now())
	if more, err = e.follow(ctx, now); err != nil {
		e.known = false
		return false, never, err
	}
	due, next, err := e.due(ctx, now, e.busy)
	if err != nil {
		return more, never, err
	}
	for _, w := range due {
		e.busy[w.key()] = true
		go func() { e.results <- result{w, e.cfg.Fetch(ctx, w.journal, bytes.Clone(w.sha[:]))} }()
	}
	return more, next, nil
}

func (e *Evidence) follow(ctx context.Context, now int64) (more bool, err error) {
	if !e.known {
		if e.committed, err = e.cfg.Store.Cursor(ctx, Follower, e.own); err != nil {
			return false, fmt.Errorf("cursor: %w", err)
		}
		e.read, e.known = e.committed, true
	}
	info, ok := e.cfg.Store.Journal(e.own)
	if !ok || e.read >= info.Size {
		return false, nil
	}
	entries, err := e.cfg.Store.Read(ctx, e.own, e.read, followBytes)
	if err != nil {
		return false, fmt.Errorf("read from %d: %w", e.read, err)
	}
	changes, err := e.wanted(ctx, entries, now)
	if err != nil {
		return false, err
	}
	to := e.read + uint64(len(entries))
	if len(changes) > 0 || to-e.committed >= lazily {
		_, errs := e.cfg.Store.Append(ctx, store.Command{Changes: changes,
			Cursors: []store.Advance{{Follower: Follower, Journal: e.own, From: e.committed, To: to}}})
		if errs[0] != nil {
			return false, fmt.Errorf("wanting evidence up to entry %d: %w", to, errs[0])
		}
		e.committed = to
	}
	e.read = to
	return to < info.Size, nil
}
