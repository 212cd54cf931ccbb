package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"duban.internal/escalation"
	"duban.internal/escalation/alert"
	"duban.internal/escalation/alertview"
	"duban.internal/escalation/rule"
	"duban.internal/federation/letters"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	"duban.internal/node/store/memory"
	dubanv1 "duban.internal/proto/duban/v1"
)

// The invariants that only rest can show, once every line is mended, every node up and every clock right:
//
//   - Everything written has reached every node above its writer, and is acknowledged; every letter its addressee.
//   - Every follower has followed everything.
//   - Every limit that ran out by the rules has its alert, and no other case has one: the rules are run here once more,
//     from the entries alone.
//   - Every level that was not handled in time is followed by the next, and every one that was, by none that still stands.
//   - What was answered is there.
//   - Folding the entries anew gives the tables; what they say of a level is what was seen to be written of it.

// rest lets everything come to rest and judges it.
func (h *history) rest() {
	p := &h.plan
	h.run(p.end + (3*p.beat + p.grace + 12*time.Hour).Microseconds())
	// Levels open as time goes on; what is on its way arrives between two of them.
	for step := 0; h.bad == nil; step++ {
		n, why := h.restless()
		if n == nil {
			break
		}
		if step > 200 {
			h.fail(n, "everything arrives", "%s", why)
			return
		}
		h.nodes[0].accept()
		h.run(h.now + time.Hour.Microseconds())
	}
	if h.bad != nil {
		return
	}
	for _, n := range h.nodes {
		n.restarted()
		n.disk.Sync()
	}
	h.judgeLevels()
	for i, n := range h.nodes {
		if i == 0 || h.rng.IntN(len(h.nodes)) < 3 {
			h.foldAgain(n)
		}
	}
	h.nodes[0].trace("rests", "", int64(len(h.sight.levels)), 0)
}

// restless finds a node that has something to do, or something that has not arrived.
func (h *history) restless() (*node, string) {
	for _, n := range h.nodes {
		if !n.up {
			return n, "it is down"
		}
		if alarm := n.alarm(); alarm != nil {
			return n, "its clock is not believed: " + alarm.Reason
		}
		for _, info := range n.store.Journals() {
			if info.Folded != info.Size {
				return n, fmt.Sprintf("journal %s is folded up to %d of %d: %s", info.ID, info.Folded, info.Size, info.Stopped)
			}
			if at, _ := n.store.Cursor(ctx, escalation.Follower, info.ID); at != info.Size {
				return n, fmt.Sprintf("the runner followed journal %s up to %d of %d", info.ID, at, info.Size)
			}
		}
		want := len(n.disk.Entries(n.own))
		for up := n.parent; up != nil; up = up.parent {
			if got := len(up.disk.Entries(n.own)); got != want {
				return n, fmt.Sprintf("%s has %d of its %d entries", up.name, got, want)
			}
		}
		if n.child != nil {
			if why := n.child.restless(); why != "" {
				return n, why
			}
		}
		for up := n.parent; up != nil; up = up.parent {
			if sent, got := up.addressed(n.code), n.taken(up.own); got != sent {
				return n, fmt.Sprintf("%s addressed %d entries to it, and %d arrived", up.name, sent, got)
			}
		}
	}
	return nil, ""
}

// addressed is how many entries this node has addressed to a jurisdiction below.
func (n *node) addressed(code jurisdiction.Code) int64 {
	row, ok, _ := n.store.Get(ctx, n.own, letters.Next, string(code))
	if !ok {
		return 0
	}
	return row[1].(int64)
}

// taken is how many entries a journal above has addressed to this node that have arrived.
func (n *node) taken(sender journal.ID) int64 {
	row, ok, _ := n.store.Get(ctx, n.own, letters.At, sender[:], string(n.code))
	if !ok {
		return 0
	}
	return row[2].(int64)
}

// expected is what the rules say of the cases of one journal: which alerts had to be raised, and when.
func (h *history) expected(n *node) map[string]int64 {
	set, cal, by := h.city.rules, h.city.calendar, map[[2]string]rule.Start{}
	out := map[string]int64{}
	cases := map[string]*rule.Case{}
	raise := func(caseID, point string, trigger uint64, at int64) {
		out[alert.ID(n.own, caseID, point, trigger)] = at
	}
	for _, e := range n.disk.Entries(n.own) {
		m := payload(&e)
		if m == nil {
			continue
		}
		if err := proto.Unmarshal(e.Payload, m); err != nil {
			h.fail(n, "entries can be read", "entry %d: %v", e.Number, err)
			return nil
		}
		id := m.GetCaseId()
		if o, ok := m.(*dubanv1.CaseOpened); ok {
			cases[id] = &rule.Case{Journal: n.own, ID: id, Procedure: o.GetProcedure(), Act: h.city.profile.Procedure(o.GetProcedure()).Act,
				Item: o.GetItem(), Agency: o.GetAgency(), Tier: string(n.tier), Generated: o.GetGenerated(), Fields: o.GetFields(), Source: o.GetSource()}
		}
		outcome, err := set.Step(cal, *cases[id], rule.Event{Number: e.Number, OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt, Payload: m})
		if err != nil {
			h.fail(n, "rules apply", "entry %d: %v", e.Number, err)
			return nil
		}
		for _, point := range outcome.Ends {
			key := [2]string{id, point}
			if s, ok := by[key]; ok && s.Due.Passed(time.UnixMicro(e.RecordedAt)) {
				raise(id, point, s.Trigger, s.Due.At.UnixMicro())
			}
			delete(by, key)
		}
		for _, s := range outcome.Starts {
			key := [2]string{id, s.Point.Name}
			if was, ok := by[key]; ok {
				if !was.Due.Passed(time.UnixMicro(e.RecordedAt)) {
					continue // the one that runs already ends sooner
				}
				raise(id, s.Point.Name, was.Trigger, was.Due.At.UnixMicro())
			}
			by[key] = s
		}
		for _, f := range outcome.Firings {
			raise(id, f.Point.Name, f.Trigger, f.At)
		}
	}
	now := n.micros()
	for key, s := range by {
		if s.Due.Passed(time.UnixMicro(now)) {
			raise(key[0], key[1], s.Trigger, s.Due.At.UnixMicro())
		}
	}
	return out
}

// caseMessage is the payload of an entry of a case.
type caseMessage interface {
	proto.Message
	GetCaseId() string
}

func payload(e *journal.Entry) caseMessage {
	switch dubanv1.EntryKind(e.Kind) {
	case dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED:
		return new(dubanv1.CaseOpened)
	case dubanv1.EntryKind_ENTRY_KIND_STAGE_RECORDED:
		return new(dubanv1.StageRecorded)
	case dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED:
		return new(dubanv1.EvidenceAttached)
	case dubanv1.EntryKind_ENTRY_KIND_EXPLANATION_GIVEN:
		return new(dubanv1.ExplanationGiven)
	}
	return nil
}

// settled is how long ago something was due that has to have happened.
func (h *history) settled() int64 {
	p := &h.plan
	return (2*p.beat + p.grace + 3*time.Hour).Microseconds()
}

func (h *history) judgeLevels() {
	// By alert and round, in a fixed order.
	expected := map[string]int64{}
	for _, n := range h.nodes {
		for id, at := range h.expected(n) {
			expected[id] = at
			if l := h.sight.levels[levelKey{id, 1, 1}]; l == nil && at < n.micros()-h.settled() {
				h.fail(n, "what ran out is an alert", "alert %.12s was due at %d and has no level 1", id, at)
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(h.sight.levels), func(a, b levelKey) int {
		return cmp.Or(cmp.Compare(a.alert, b.alert), cmp.Compare(a.round, b.round), cmp.Compare(a.level, b.level))
	})
	for _, key := range keys {
		if h.bad != nil {
			return
		}
		l := h.sight.levels[key]
		row, ok, _ := l.writer.store.Get(ctx, l.writer.own, alertview.Level, key.alert, int64(key.round), int64(key.level))
		late := int64(0)
		if l.late {
			late = 1
		}
		if !ok || row[handledColumn] != l.handled || row[lateColumn] != late {
			h.fail(l.writer, "tables say what was written", "alert %.12s round %d level %d was handled at %d, late %d; the table has %v", key.alert, key.round, key.level, l.handled, late, row)
		}
		if l.opening.GetCaseId() == "" {
			continue
		}
		at, ran := expected[key.alert]
		if !ran && (key.level == 1 || !l.withdrawn && l.handled == 0) {
			h.fail(l.writer, "only what ran out is an alert", "alert %.12s level %d stands, and no limit of case %s ran out", key.alert, key.level, l.opening.GetCaseId())
		}
		if ran && key.round == 1 && l.recorded < at {
			h.fail(l.writer, "nothing is early", "alert %.12s level %d was opened at %d, the limit of its case ran out at %d", key.alert, key.level, l.recorded, at)
		}
		below := h.sight.levels[levelKey{key.alert, key.round, key.level - 1}]
		if below != nil && below.handled != 0 && !below.late && !below.reopened && !l.withdrawn && l.handled == 0 {
			h.fail(l.writer, "what was handled in time goes no further", "alert %.12s level %d stands, and level %d was handled in time", key.alert, key.level, key.level-1)
		}
		above := h.sight.levels[levelKey{key.alert, key.round, key.level + 1}]
		passed := l.due != 0 && l.due < h.now-h.settled()-h.plan.skew.Microseconds()
		if above == nil && passed && !l.opening.GetLast() && (l.handled == 0 || l.late) && (!l.withdrawn || l.reopened) {
			h.fail(l.writer, "what is not handled goes up", "alert %.12s round %d level %d was due at %d, was not handled in time, and no level follows", key.alert, key.round, key.level, l.due)
		}
	}
}

// foldAgain folds what a node's journals got in this history once more, onto the tables as they were before it.
func (h *history) foldAgain(n *node) {
	again := memory.Open(memory.Config{Disk: h.city.disks[n.code].Clone(), Folds: folds, Tables: tables(), Known: known, Clock: n})
	var replicas []store.Replica
	for _, info := range n.store.Journals() {
		had, _ := again.Journal(info.ID)
		if news := n.disk.Entries(info.ID)[had.Size:]; info.Own {
			again.Restore(news)
		} else {
			replicas = append(replicas, store.Replica{Journal: info.ID, From: had.Size, Entries: news})
		}
	}
	for _, err := range again.AppendReplica(ctx, replicas...) {
		if err != nil {
			h.fail(n, "folding anew gives the tables", "%v", err)
			return
		}
	}
	for _, f := range folds {
		for _, t := range f.Tables {
			if why := n.store.Differs(again, t); why != "" {
				h.fail(n, "folding anew gives the tables", "table %s: %.600s", t.Name, why)
				return
			}
		}
	}
}
