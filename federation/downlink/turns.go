package downlink

import (
	"duban.internal/node/journal"
)

// item is what was verified and waits for the store: a run of entries, a checkpoint, or evidence.
type item struct {
	session uint64
	journal journal.ID
	held    *held
	taken   *Taken
	refusal *Refusal
	bytes   int // of the budgets of its session and of the node
}

// turns holds items by journal, in order, and gives them out a portion of each journal at a time: one that floods waits
// for its next turn while every other journal has one.
type turns struct {
	lines map[journal.ID][]item
	ring  []journal.ID // those that have a line; the first is next
}

// quantum is how much one journal gets in one turn, in bytes.
const quantum = 256 << 10

// overhead is added to each item's bytes, so that many small ones are no cheaper than they are.
const overhead = 512

func (t *turns) add(it item) {
	if t.lines == nil {
		t.lines = map[journal.ID][]item{}
	}
	line, waits := t.lines[it.journal]
	if !waits {
		t.ring = append(t.ring, it.journal)
	}
	t.lines[it.journal] = append(line, it)
}

// take gives out about most bytes, at least one item where there is one, of journals that are not busy; the order within a
// journal stays.
func (t *turns) take(most int, busy map[journal.ID]bool) (out []item) {
	passed := 0 // busy ones in a row
	for bytes := 0; bytes < most && passed < len(t.ring); {
		id := t.ring[0]
		if busy[id] {
			t.ring = append(t.ring[1:], id)
			passed++
			continue
		}
		passed = 0
		line, n, had := t.lines[id], 0, 0
		for n < len(line) && had < quantum {
			had += line[n].bytes + overhead
			n++
		}
		out, bytes = append(out, line[:n]...), bytes+had
		t.ring = t.ring[1:]
		if n < len(line) {
			t.lines[id], t.ring = line[n:], append(t.ring, id)
		} else {
			delete(t.lines, id)
		}
	}
	return out
}

// drop lets go of what waits of a journal.
func (t *turns) drop(id journal.ID) []item {
	line, waits := t.lines[id]
	if !waits {
		return nil
	}
	delete(t.lines, id)
	for i := range t.ring {
		if t.ring[i] == id {
			t.ring = append(t.ring[:i:i], t.ring[i+1:]...)
			break
		}
	}
	return line
}
