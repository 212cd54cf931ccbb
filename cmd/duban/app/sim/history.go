package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"duban.internal/node/jurisdiction"
)

// history is one run of the tree under a seed.
type history struct {
	city   *city
	seed   uint64
	plan   plan
	rng    *rand.Rand
	salts  *rand.Rand
	now    int64 // true time, microseconds
	queue  queue
	nodes  []*node // the city first
	by     map[jurisdiction.Code]*node
	net    *network
	trace  *trace
	steps  int
	sight  sight
	crowd  crowd
	centre *node // where most happens

	mended bool // no more faults
	bad    *Violation
}

// Violation is an invariant that does not hold.
type Violation struct {
	Seed      uint64   `json:"seed"`
	Step      int      `json:"step"`
	Time      string   `json:"time"`
	Node      string   `json:"node"`
	Invariant string   `json:"invariant"`
	Found     string   `json:"found"`
	Last      []string `json:"last_events"`
}

func (v *Violation) Error() string {
	return fmt.Sprintf("seed %d, step %d, %s, at %s: %s: %s", v.Seed, v.Step, v.Time, v.Node, v.Invariant, v.Found)
}

func newHistory(c *city, seed uint64, p plan, out io.Writer) *history {
	h := &history{city: c, seed: seed, plan: p, rng: rand.New(rand.NewPCG(seed, 2)), salts: rand.New(rand.NewPCG(seed, 3)), now: p.start,
		by: map[jurisdiction.Code]*node{}, trace: newTrace(out)}
	h.net = &network{h: h, cut: map[line]int{}}
	h.sight = newSight()
	for _, m := range c.members {
		n := &node{h: h, name: string(m.Code), code: m.Code, tier: m.Tier, own: m.Journal, key: c.keys[m.Code], parent: h.by[m.Parent], disk: c.disks[m.Code].Clone()}
		h.nodes, h.by[m.Code] = append(h.nodes, n), n
		if n.parent != nil {
			n.parent.below = append(n.parent.below, n)
		}
	}
	for _, n := range h.nodes {
		n.opened()
	}
	for _, n := range h.nodes {
		n.start()
	}
	return h
}

// within says whether a node is another, or lies below it.
func (h *history) within(n, above *node) bool {
	for ; n != nil; n = n.parent {
		if n == above {
			return true
		}
	}
	return false
}

// salt draws the salt of an entry.
func (h *history) salt() []byte {
	b := make([]byte, 0, 16)
	for range 2 {
		x := h.salts.Uint64()
		b = append(b, byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56))
	}
	return b
}

func (h *history) at(at int64, do func()) { h.queue.push(max(at, h.now), do) }

// maxEvents is more than any history takes that comes to rest.
const maxEvents = 5_000_000

// run lets things happen until a time.
func (h *history) run(until int64) {
	for h.bad == nil && len(h.queue.events) > 0 && h.queue.events[0].at <= until {
		e := h.queue.pop()
		h.now = e.at
		e.do()
		if h.queue.seq > maxEvents {
			h.fail(h.nodes[0], "a history comes to rest", "%d events", h.queue.seq)
		}
	}
	if h.bad == nil {
		h.now = until
	}
}

// fail notes the first violation.
func (h *history) fail(n *node, invariant, format string, args ...any) {
	if h.bad != nil {
		return
	}
	h.bad = &Violation{Seed: h.seed, Step: h.steps, Time: n.h.when(), Node: n.name, Invariant: invariant, Found: fmt.Sprintf(format, args...), Last: h.trace.tail()}
}

func (h *history) when() string { return time.UnixMicro(h.now).UTC().Format(time.RFC3339Nano) }

// anyone picks a node for something to happen at: mostly in one district, so that things meet. Not the city where streets
// are asked for.
func (h *history) anyone(streets bool) *node {
	if h.centre == nil {
		h.centre = h.nodes[0].below[h.rng.IntN(len(h.nodes[0].below))]
	}
	for {
		n := h.nodes[h.rng.IntN(len(h.nodes))]
		if h.rng.IntN(h.plan.focus) > 0 {
			n = h.centre
			if at := h.rng.IntN(len(h.centre.below) + 2); at < len(h.centre.below) {
				n = h.centre.below[at]
			}
		}
		if !streets || n.parent != nil {
			return n
		}
	}
}

// faults puts what the plan has in its time.
func (h *history) faults() {
	p, length := &h.plan, h.plan.end-h.plan.start
	sometime := func() int64 { return p.start + h.rng.Int64N(length) }
	for range p.crashes {
		n := h.anyone(false)
		h.at(sometime(), func() {
			if n.up && !h.mended {
				n.crash()
				h.restart(n)
			}
		})
	}
	for i := range p.cuts + p.oneWay {
		n := h.anyone(true)
		to := n.parent
		if h.rng.IntN(3) == 0 {
			to = nil // cut off from everybody
		}
		var lines []line
		for _, other := range h.nodes {
			if other != n && (to == nil || other == to) && (h.within(n, other) || h.within(other, n)) {
				lines = append(lines, line{n, other}, line{other, n})
			}
		}
		if i >= p.cuts {
			way := h.rng.IntN(2)
			one := lines[:0]
			for k := way; k < len(lines); k += 2 {
				one = append(one, lines[k])
			}
			lines = one
		}
		from := sometime()
		h.at(from, func() { h.sever(n, lines, 1) })
		h.at(from+h.rng.Int64N(p.longest.Microseconds()), func() { h.sever(n, lines, -1) })
	}
	for range p.jumps {
		n := h.anyone(false)
		by := between(h.rng, -3*24*time.Hour, 10*24*time.Hour).Microseconds()
		h.at(sometime(), func() {
			if h.mended {
				return
			}
			n.trace("clock jumps", "", by, 0)
			n.skew += by
			n.troubled = h.now
			n.poke(0)
			h.at(h.now+h.rng.Int64N((2*24*time.Hour).Microseconds()), func() {
				n.trace("clock put right", "", 0, 0)
				n.skew -= by
				n.troubled = h.now
				h.at(h.now+time.Hour.Microseconds(), n.accept)
				n.poke(0)
			})
		})
	}
	if p.skew > 0 {
		for _, n := range h.nodes[1:] {
			n.skew = between(h.rng, -p.skew, p.skew).Microseconds() / 2
		}
	}
}

func (h *history) sever(n *node, lines []line, by int) {
	if by > 0 && h.mended {
		return
	}
	for _, l := range lines {
		if by < 0 && h.net.cut[l] == 0 {
			continue // mended before
		}
		h.net.cut[l] += by
		l.from.troubled, l.to.troubled = h.now, h.now
	}
	n.trace("line", map[int]string{1: "cut", -1: "mended"}[by], int64(len(lines)), 0)
}

// restart brings a node up again after a while.
func (h *history) restart(n *node) {
	after := h.rng.Int64N(h.plan.longest.Microseconds())
	if h.rng.IntN(2) == 0 {
		after = h.rng.Int64N((10 * time.Minute).Microseconds())
	}
	h.at(h.now+after, func() {
		if !n.up {
			n.start()
		}
	})
}

// mend ends the faults and the load.
func (h *history) mend() {
	h.mended = true
	h.crowd.closed = true
	clear(h.net.cut)
	for _, n := range h.nodes {
		n.troubled = h.now
	}
	for _, c := range h.net.conns {
		c.upBroken, c.downBroken = c.upBroken && !c.parentOpen, c.downBroken && !c.childOpen
	}
	for _, n := range h.nodes {
		if !n.up {
			n.start()
		}
		n.poke(0)
	}
	h.nodes[0].trace("mended", "", 0, 0)
}

// tell runs a whole history.
func (h *history) tell() {
	h.faults()
	h.load()
	h.run(h.plan.end)
	if h.bad != nil {
		return
	}
	h.mend()
	h.rest()
}
