package sim

// event is something that happens at a virtual time; of two at one time the one asked for first comes first.
type event struct {
	at  int64
	seq uint64
	do  func()
}

// queue is a heap of events.
type queue struct {
	events []event
	seq    uint64
}

func (q *queue) before(i, j int) bool {
	a, b := &q.events[i], &q.events[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (q *queue) push(at int64, do func()) {
	q.seq++
	q.events = append(q.events, event{at, q.seq, do})
	for i := len(q.events) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.before(i, up) {
			break
		}
		q.events[i], q.events[up] = q.events[up], q.events[i]
		i = up
	}
}

func (q *queue) pop() event {
	top, last := q.events[0], len(q.events)-1
	q.events[0] = q.events[last]
	q.events[last] = event{}
	q.events = q.events[:last]
	for i := 0; ; {
		next := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < last && q.before(down, next) {
				next = down
			}
		}
		if next == i {
			return top
		}
		q.events[i], q.events[next] = q.events[next], q.events[i]
		i = next
	}
}
