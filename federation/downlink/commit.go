package downlink

import (
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/planted"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// pump hands the store what waits, while it has room for it.
func (c *Core) pump() {
	for c.storing < max(1, c.cfg.Flights) {
		items := c.turns.take(c.cfg.Together, c.busy)
		if len(items) == 0 {
			return
		}
		c.commit(items)
	}
}

func (c *Core) commit(items []item) {
	for _, it := range items {
		c.busy[it.journal] = true
	}
	c.tickets++
	w := &Commit{Ticket: c.tickets, items: items}
	at := map[journal.ID]int{} // a journal's last run among the replicas
	beats := map[journal.ID]*Taken{}
	var order []journal.ID
	for _, it := range items {
		switch t := it.taken; {
		case it.refusal != nil:
			w.Commands = append(w.Commands, c.evidence(it))
			w.command = append(w.command, []journal.ID{it.journal})
		case len(t.Entries) > 0:
			delete(beats, it.journal) // superseded
			if planted.On("downlink.drops-last") && len(t.Entries) > 1 {
				t.Entries = t.Entries[:len(t.Entries)-1]
			}
			at[it.journal] = len(w.Replicas)
			w.Replicas = append(w.Replicas, store.Replica{Journal: t.Journal, From: t.From, Entries: t.Entries, Changes: t.Changes()})
			w.replica = append(w.replica, it.journal)
			if planted.On("downlink.no-checkpoint") {
				w.Replicas[len(w.Replicas)-1].Changes = nil
			}
		case t.Stale:
		default:
			if i, ok := at[it.journal]; ok {
				w.Replicas[i].Changes = append(w.Replicas[i].Changes, t.Changes()...)
				continue
			}
			if beats[it.journal] == nil {
				order = append(order, it.journal)
			}
			beats[it.journal] = t
		}
	}
	var changes []store.Change
	var of []journal.ID
	for _, id := range order {
		if t := beats[id]; t != nil {
			changes, of = append(changes, t.Changes()...), append(of, id)
		}
	}
	if len(changes) > 0 {
		w.Commands = append(w.Commands, store.Command{Changes: changes})
		w.command = append(w.command, of)
	}
	c.storing++
	c.out = append(c.out, Effect{Commit: w})
}

// evidence is the entry that keeps why a journal was refused; the same evidence is there once, until it is readmitted.
func (c *Core) evidence(it item) store.Command {
	r := it.refusal
	by := "node:" + string(c.cfg.Code)
	code, again := string(it.held.code), ""
	if it.held.readmitted > 0 {
		again = fmt.Sprintf("/%d", it.held.readmitted)
	}
	presented := ""
	if s := c.sessions[it.session]; s != nil {
		presented = "presented by " + s.caller.Actor() + ": "
	}
	payload, err := proto.Marshal(&dubanv1.PeerRefused{Journal: r.Journal[:], Code: code, Reason: presented + r.Reason,
		AcceptedCheckpoint: r.Accepted, RefusedCheckpoint: r.Refused, From: r.From})
	if err != nil {
		panic(err) // strings are valid UTF-8: reasons are made here
	}
	p := store.Proposal{Stream: federation.PeerStream(r.Journal), Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_PEER_REFUSED), Actor: by, Payload: payload}
	p.Seal()
	digest := sha256.Sum256(r.Refused)
	return store.Command{Natural: fmt.Sprintf("peer/%s/%x%s", r.Journal, digest[:8], again), Entries: []store.Proposal{p}}
}

// Stored answers Commit: the outcome of each replica and of each command. What failed is forgotten: who sent it comes again.
func (c *Core) Stored(w *Commit, replicas, commands []error, now int64) {
	c.storing--
	for _, it := range w.items {
		delete(c.busy, it.journal)
	}
	failed := map[journal.ID]error{}
	for i, err := range replicas {
		if err != nil {
			failed[w.replica[i]] = err
		}
	}
	for i, err := range commands {
		if err != nil {
			for _, id := range w.command[i] {
				failed[id] = err
			}
		}
	}
	type key struct {
		session uint64
		journal journal.ID
	}
	last := map[key]*Taken{}
	var order []key
	for _, it := range w.items {
		c.settle(it)
		if failed[it.journal] != nil {
			continue
		}
		if it.refusal != nil {
			c.refused(it)
			continue
		}
		t, k := it.taken, key{it.session, it.journal}
		if len(t.Entries) > 0 {
			it.held.stored = max(it.held.stored, t.From+uint64(len(t.Entries)))
		}
		if !t.Stale {
			c.update(t.Journal, func(st *Status) {
				st.Size, st.Checkpoint, st.Covered = t.Checkpoint.Size, t.Checkpoint.Time, t.Checkpoint.Size
			})
		}
		if last[k] == nil {
			order = append(order, k)
		}
		last[k] = t
	}
	for _, k := range order {
		if s := c.sessions[k.session]; s != nil {
			t := last[k]
			c.send(s, &dubanv1.SyncResponse{Message: &dubanv1.SyncResponse_Ack{Ack: &dubanv1.SyncAck{
				Journal: t.Journal[:], Size: t.Checkpoint.Size, Countersigned: t.Note, NowUs: now}}})
			if len(t.Entries) == 0 && s.lanes[k.journal].own {
				c.recall(s)
				c.next(s)
			}
		}
	}
	for _, it := range w.items { // in their order, which is the same for the same input
		id, err := it.journal, failed[it.journal]
		if err == nil {
			continue
		}
		delete(failed, id)
		if fault.Is(err, fault.Conflict) {
			err = fault.New(fault.Unavailable, "journal %s moved on: come again: %w", id, err)
		}
		c.reset(id, fmt.Errorf("storing journal %s: %w", id, err))
	}
	for _, it := range w.items {
		c.unpark(it.journal)
		c.release(it.journal)
	}
	c.pump()
}

// refused tells of a refusal whose evidence is stored, on every stream that speaks of the journal.
func (c *Core) refused(it item) {
	c.update(it.journal, func(st *Status) { st.Refused = it.refusal.Reason })
	for _, s := range c.inOrder() {
		if l := s.lanes[it.journal]; s.state == open && l != nil {
			l.refused = it.refusal.Reason
			c.send(s, refusal(it.refusal))
		}
	}
}

// unpark compares checkpoints that waited for entries to be durable.
func (c *Core) unpark(id journal.ID) {
	h := c.copies[id]
	if h == nil {
		return
	}
	rest := h.parked[:0]
	for _, q := range h.parked {
		if q.Size < h.stored {
			c.out = append(c.out, Effect{Compare: q})
		} else {
			rest = append(rest, q)
		}
	}
	h.parked = rest
}
