package app

import (
	"context"
	"log/slog"
	"time"

	"duban.internal/escalation"
	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/federation/fetch"
	"duban.internal/federation/letters"
	"duban.internal/federation/uplink"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/rpc"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// federate makes the ends of the sync that this node's place in the tree asks for.
func (n *Node) federate(ctx context.Context) error {
	log := n.log.With(slog.String("part", "federation"))
	if len(n.tree.Children(n.self.Code)) > 0 {
		if err := n.listenBelow(ctx, log); err != nil {
			return err
		}
	}
	if n.cfg.Parent == "" {
		return nil
	}
	return n.speakAbove(log)
}

// post is what letters are made of and kept by.
func (n *Node) post(log *slog.Logger) letters.Config {
	return letters.Config{
		Code: n.self.Code, Tree: n.tree, Store: n.store, Key: n.key, Case: n.caseOf, Log: log, Metrics: n.metrics,
	}
}

// caseOf is the journal of the case that an alert is about, as far as this node holds an opening of it.
func (n *Node) caseOf(ctx context.Context, alert string) (id journal.ID, found bool, err error) {
	err = n.store.View(ctx, func(q store.Queryer) error {
		rows, err := q.QueryContext(ctx, `SELECT case_journal FROM level WHERE alert_id = $1 LIMIT 1`, alert)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var b []byte
			if err := rows.Scan(&b); err != nil {
				return err
			}
			if id, err = journal.IDFrom(b); err != nil {
				return err
			}
			found = true
		}
		return rows.Err()
	})
	return id, found, err
}

// listenBelow makes what children speak to, and what is sent down to them.
func (n *Node) listenBelow(ctx context.Context, log *slog.Logger) error {
	post, err := letters.NewPost(n.post(log))
	if err != nil {
		return err
	}
	if n.letters, err = letters.NewRunner(n.post(log), n.store, n.clock); err != nil {
		return err
	}
	n.downlink, err = downlink.New(ctx, downlink.Config{
		Code: n.self.Code, Tree: n.tree, Key: n.key, Store: n.store, Clock: n.clock, Log: log, Version: Version(), Letters: post,
		Memory: int(n.cfg.Sync.Memory), Window: int(n.cfg.Sync.Window),
	})
	if err != nil {
		return err
	}
	brought := n.fetches(log)
	brought.Meter = n.metrics
	if n.fetcher, err = fetch.NewFetcher(brought); err != nil {
		return err
	}
	n.evidence, err = fetch.NewEvidence(fetch.EvidenceConfig{
		Store: n.store, Files: n.files, Clock: n.clock, Fetch: n.fetcher.Fetch, OfCase: fetch.OfCase(n.store), Log: log,
	})
	return err
}

// address lets letters be written once the node above knows what they are.
func (n *Node) address(ctx context.Context) error {
	for n.recorder.unknown()(uint32(dubanv1.EntryKind_ENTRY_KIND_ADDRESSED)) {
		if err := clock.Pause(ctx, n.clock, takeAgain); err != nil {
			return err
		}
	}
	return n.letters.Run(ctx)
}

// fetches is how attachments travel between this node and those below.
func (n *Node) fetches(log *slog.Logger) fetch.Config {
	c := fetch.Config{Code: n.self.Code, Tree: n.tree, Files: n.files, Named: fetch.Names(n.store), Clock: n.clock, Log: log}
	if n.downlink != nil {
		c.Below = n.downlink
	}
	return c
}

// bring gets an attachment from below that is not here; nil where nothing lies below.
func (n *Node) bring() func(ctx context.Context, sha256 []byte) error {
	if n.fetcher == nil {
		return nil
	}
	return n.fetcher.Bring
}

// speakAbove makes what speaks to the parent, and to those above it where the parent is gone.
func (n *Node) speakAbove(log *slog.Logger) (err error) {
	if n.box, err = letters.NewBox(n.post(log)); err != nil {
		return err
	}
	ancestors, err := n.ancestors()
	if err != nil {
		return err
	}
	given, err := fetch.NewServer(n.fetches(log))
	if err != nil {
		return err
	}
	n.uplink, err = uplink.New(uplink.Config{
		Code: n.self.Code, Tree: n.tree, Key: n.key, Store: n.store, Clock: n.clock, Log: log, Version: Version(),
		Parent: n.cfg.Parent, TLS: n.pair.Client(n.nodeOf(n.self.Parent)), Ancestors: ancestors, DialOptions: rpc.DialOptions(),
		Letters: taking{n}, Files: given, Interval: n.cfg.Intervals.Checkpoint, Around: n.cfg.Intervals.Around, Retry: n.cfg.Intervals.Retry,
	})
	if err != nil {
		return err
	}
	n.recorder.listen(n.uplink.Status)
	return nil
}

func (n *Node) nodeOf(code jurisdiction.Code) identity.Identity {
	return identity.Identity{City: n.tree.City(), Kind: identity.Node, Code: code}
}

// ancestors are those above the parent that can be dialed: as configured, else where the topology says.
func (n *Node) ancestors() (out []uplink.Ancestor, err error) {
	configured, err := n.cfg.ancestors()
	if err != nil {
		return nil, err
	}
	at := map[jurisdiction.Code]string{}
	for _, a := range configured {
		if a.code == n.self.Parent || a.code == n.self.Code || !n.tree.Within(n.self.Code, a.code) {
			return nil, refused("ancestors", "%s does not lie above the parent %s", a.code, n.self.Parent)
		}
		at[a.code] = a.address
	}
	parent, _ := n.tree.Node(n.self.Parent)
	for up, ok := n.tree.Node(parent.Parent); ok; up, ok = n.tree.Node(up.Parent) {
		address := at[up.Code]
		if len(configured) == 0 {
			address = up.Address
		}
		if address != "" {
			out = append(out, uplink.Ancestor{Code: up.Code, Address: address, TLS: n.pair.Client(n.nodeOf(up.Code))})
		}
	}
	return out, nil
}

// taking takes letters into the own journal. Where that may not be written to now, it waits until it may: the stream goes on
// meanwhile, and the nodes above see that this one lives.
type taking struct{ n *Node }

var _ federation.Above = taking{}

// Positions are the Box's.
func (t taking) Positions(ctx context.Context) ([]*dubanv1.LetterPosition, error) {
	return t.n.box.Positions(ctx)
}

// Take is the Box's. A letter that came may have to be forwarded: the downlink is told.
func (t taking) Take(ctx context.Context, letter *dubanv1.SyncLetter) (*dubanv1.SyncLetterAck, error) {
	for {
		ack, err := t.n.box.Take(ctx, letter)
		if fault.Is(err, fault.Precondition) {
			if err := clock.Pause(ctx, t.n.clock, takeAgain); err != nil {
				return nil, err
			}
			continue
		}
		if err == nil && t.n.downlink != nil {
			t.n.downlink.Poke()
		}
		return ack, err
	}
}

// takeAgain is how long is waited before a letter is tried again, up or down.
const takeAgain = time.Second

// escalate makes the runner.
func (n *Node) escalate(context.Context) (err error) {
	n.runner, err = escalation.New(escalation.Config{
		Store: n.store, Registry: n.registry, Cases: n.cases, Tree: n.divisions, Code: n.self.Code, Clock: n.clock,
		Peer: n.peer, Witnessed: n.witnessed, Grace: n.cfg.Intervals.Grace, Silence: n.cfg.Intervals.Silence,
		Log: n.log.With(slog.String("part", "escalation")), Metrics: n.metrics,
	})
	return err
}

// peer says how a journal from below is heard.
func (n *Node) peer(id journal.ID) escalation.Peer {
	if n.downlink == nil {
		return escalation.Peer{}
	}
	return escalation.Peer(n.downlink.Peer(id))
}

// witnessed says when an entry of a journal from below was first shown to a node above its writer.
func (n *Node) witnessed(ctx context.Context, id journal.ID, number uint64) (int64, uint64, bool, error) {
	if n.downlink == nil {
		return 0, 0, false, nil
	}
	return n.downlink.Witnessed(ctx, id, number)
}

// silentSince is since when nothing came of a journal from below for longer than the configured silence; 0 where it speaks.
func (n *Node) silentSince(id journal.ID, now int64) int64 {
	p := n.peer(id)
	if heard := max(p.Heard, p.Since); heard != 0 && now-heard > n.cfg.Intervals.Silence.Microseconds() {
		return heard
	}
	return 0
}

// above tells of the nodes above this one, the parent first.
func (n *Node) above(ctx context.Context) (out []*dubanv1.AncestorStatus, err error) {
	if n.uplink == nil {
		return nil, nil
	}
	status, own := n.uplink.Status(), n.store.Own()
	post, err := n.box.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, sender := range post {
		a := &dubanv1.AncestorStatus{Code: string(sender.Code), Journal: sender.Journal[:], Letters: sender.Received, Refused: sender.Refused}
		var row store.Row
		var ok bool
		if sender.Code == n.self.Parent {
			if row, ok, err = n.store.Get(ctx, own, federation.Acknowledged); ok {
				a.WitnessedSize, a.WitnessedUs, a.HeardUs = uint64(row[0].(int64)), row[1].(int64), status.Heard
			}
		} else if row, ok, err = n.store.Get(ctx, own, federation.Ancestor, string(sender.Code)); ok {
			a.WitnessedSize, a.WitnessedUs, a.HeardUs = uint64(row[1].(int64)), row[2].(int64), row[3].(int64)
		}
		if err != nil {
			return nil, err
		}
		for _, s := range status.Above {
			if s.Code == sender.Code {
				a.Direct = s.Dialed
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// settles says whether people may settle the refusal of a journal here: of a node below, or of letters from above.
func (n *Node) settles(ctx context.Context, id journal.ID) (jurisdiction.Code, error) {
	m, ok := n.tree.Journal(id)
	if !ok || m.Code == n.self.Code || !n.tree.Within(m.Code, n.self.Code) && !n.tree.Within(n.self.Code, m.Code) {
		return "", fault.Refuse(fault.NotFound, "no such journal below or above this node", fault.Field{Field: "journal", Description: id.String()})
	}
	_, refused, err := n.store.Get(ctx, n.store.Own(), federation.PeerRefusal, id[:])
	if err == nil && !refused {
		err = fault.Refuse(fault.Precondition, "there is nothing to settle", fault.Field{
			Field: "journal", Description: "of " + string(m.Code) + " is not refused here",
		})
	}
	return m.Code, err
}
