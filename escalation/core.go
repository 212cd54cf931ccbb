package escalation

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// State is what Core reads of a store.
type State interface {
	Own() journal.ID
	Version(ctx context.Context, stream string) (uint64, error)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error)
	Journals() []store.Info
	Journal(id journal.ID) (store.Info, bool)
}

// Core decides what the runner writes. It is for one goroutine at a time.
type Core struct {
	state    State
	registry Registry
	cases    Cases
	tree     *jurisdiction.Tree
	own      journal.ID
	home     home
	actor    string
	log      *slog.Logger

	peer      func(journal.ID) Peer
	witnessed func(context.Context, journal.ID, uint64) (int64, uint64, bool, error)
	grace     int64

	sets     *Sets
	openings openings
	homes    map[journal.ID]home // those known; an entry that names the jurisdiction anew is followed, and asked about again
}

// NewCore makes a Core over a state. Of the configuration it uses all but Store, Clock, Silence and Metrics.
func NewCore(s State, c Config) *Core {
	d, _ := c.Tree.Get(c.Code)
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if c.Rules == nil {
		c.Rules = NewSets()
	}
	return &Core{
		state: s, registry: c.Registry, cases: c.Cases, tree: c.Tree,
		own: s.Own(), home: home{code: string(c.Code), tier: string(d.Tier)}, actor: "node:" + string(c.Code), log: log,
		peer: c.Peer, witnessed: c.Witnessed, grace: c.Grace.Microseconds(),
		sets: c.Rules, homes: make(map[journal.ID]home),
	}
}

// home is which jurisdiction a journal stands for.
type home struct{ code, tier string }

// batch is one call's work: what it decided so far counts as done for what follows.
type batch struct {
	*Core
	careful  bool // look before opening; else rely on the version that is expected
	versions map[string]uint64
	running  map[[2]string]*running // by case and point, of the journal that is followed; nil for ended
	vacant   map[office]bool
	levels   *judgement                        // what judges levels here; nil where not asked yet
	writers  map[journal.ID][]alertview.Writer // by the journal of a case
	rules    *ruled                            // what judges the cases of the journal that is followed; nil where not asked yet
	cmd      store.Command
}

// office names a body as far as one batch goes.
type office struct {
	role, agency string
	journal      journal.ID // of the agency
}

func (c *Core) batch(careful bool) *batch {
	return &batch{
		Core: c, careful: careful,
		versions: make(map[string]uint64), running: make(map[[2]string]*running), vacant: make(map[office]bool),
		writers: make(map[journal.ID][]alertview.Writer),
	}
}

// homeOf is which jurisdiction a journal stands for; false where its first entry has not come.
func (c *Core) homeOf(ctx context.Context, id journal.ID) (home, bool, error) {
	if id == c.own {
		return c.home, true, nil
	}
	if h, known := c.homes[id]; known {
		return h, true, nil
	}
	d, ok, err := c.registry.Jurisdiction(ctx, id)
	if err != nil {
		return home{}, false, fmt.Errorf("jurisdiction of journal %s: %w", id, err)
	}
	if !ok {
		return home{}, false, nil
	}
	known, _ := c.tree.Get(d.Code)
	h := home{string(d.Code), string(known.Tier)}
	c.homes[id] = h
	return h, true, nil
}

// journalsOf are the journals that stand, or stood, for a jurisdiction.
func (c *Core) journalsOf(ctx context.Context, code string) (found []store.Info, err error) {
	for _, info := range c.state.Journals() {
		h, ok, err := c.homeOf(ctx, info.ID)
		if err != nil {
			return nil, err
		}
		if ok && h.code == code {
			found = append(found, info)
		}
	}
	return found, nil
}

// load gives an alert with the levels that this node and those between it and the case opened; nil where there is none.
func (b *batch) load(ctx context.Context, id string, caseJournal journal.ID) (*alert.Alert, error) {
	writers, err := b.writersOf(ctx, caseJournal)
	if err != nil || len(writers) == 0 {
		return nil, err
	}
	return alertview.Read(ctx, b.state, id, writers...)
}

// writersOf are the journals of a case's jurisdiction and of those above it, up to this node's.
func (b *batch) writersOf(ctx context.Context, caseJournal journal.ID) (writers []alertview.Writer, err error) {
	if known, ok := b.writers[caseJournal]; ok {
		return known, nil
	}
	h, ok, err := b.homeOf(ctx, caseJournal)
	if err != nil || !ok {
		return nil, err
	}
	for d, ok := b.tree.Get(jurisdiction.Code(h.code)); ok; d, ok = b.tree.Parent(d.Code) {
		journals, err := b.journalsOf(ctx, string(d.Code))
		if err != nil {
			return nil, err
		}
		for _, info := range journals {
			writers = append(writers, alertview.Writer{Journal: info.ID, Code: string(d.Code)})
		}
		if string(d.Code) == b.home.code {
			break
		}
	}
	b.writers[caseJournal] = writers
	return writers, nil
}

// open adds openings of one alert to the command. guess is the version that its stream should have.
func (b *batch) open(ctx context.Context, openings []*dubanv1.LevelOpened, guess uint64, at int64) error {
	if len(openings) == 0 {
		return nil
	}
	first := openings[0]
	stream := alert.Stream(first.GetAlertId())
	version, err := b.version(ctx, stream, guess)
	if err != nil {
		return err
	}
	if b.careful {
		// After the version: an opening in between makes the command fail rather than exist twice.
		_, there, err := b.state.Get(ctx, b.own, alertview.Level, first.GetAlertId(), int64(first.GetRound()), int64(first.GetLevel()))
		if err != nil {
			return fmt.Errorf("alert %s: %w", first.GetAlertId(), err)
		}
		if there {
			return nil
		}
	}
	b.expect(stream, version)
	for _, o := range openings {
		if err := b.entry(stream, dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED, at, o); err != nil {
			return err
		}
	}
	return nil
}

// carefully has what fn opens looked for first, whatever the batch does otherwise.
func (b *batch) carefully(fn func() error) error {
	was := b.careful
	b.careful = true
	defer func() { b.careful = was }()
	return fn()
}

func (b *batch) version(ctx context.Context, stream string, guess uint64) (uint64, error) {
	if v, known := b.versions[stream]; known {
		return v, nil
	}
	if !b.careful {
		return guess, nil
	}
	v, err := b.state.Version(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("version of %s: %w", stream, err)
	}
	return v, nil
}

func (b *batch) expect(stream string, version uint64) {
	for _, e := range b.cmd.Expect {
		if e.Stream == stream {
			return // the first entry of the command was checked against it
		}
	}
	b.cmd.Expect = append(b.cmd.Expect, store.Expect{Stream: stream, Version: version})
	b.versions[stream] = version
}

func (b *batch) entry(stream string, kind dubanv1.EntryKind, at int64, m proto.Message) error {
	payload, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s: %w", stream, err)
	}
	b.cmd.Entries = append(b.cmd.Entries, store.Proposal{
		Stream: stream, Kind: uint32(kind), OccurredAt: at, Actor: b.actor, Payload: payload,
	})
	b.versions[stream]++
	return nil
}

func (b *batch) change(c ...store.Change) { b.cmd.Changes = append(b.cmd.Changes, c...) }

// take gives the command decided so far and begins another.
func (b *batch) take() store.Command {
	cmd := b.cmd
	b.cmd = store.Command{}
	return cmd
}
