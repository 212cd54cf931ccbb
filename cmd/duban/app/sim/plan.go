package sim

import (
	"math/rand/v2"
	"time"
)

// plan is what a seed draws before a history begins: how long things take, and what goes wrong how often.
type plan struct {
	start, end int64 // of the load and the faults; then everything is mended and comes to rest

	beat    time.Duration // between checkpoints of an idle journal
	grace   time.Duration // of silence, before a level opens without being told
	silence time.Duration // before a child is silent
	around  time.Duration // before a child goes around its parent
	// patience is virtual time for one second of what people feel: pauses before dialing again, waiting for answers.
	patience time.Duration
	latency  time.Duration // of a message, at most
	slowSync time.Duration // at most

	loss, repeat, overtake float64 // of a message; 0 on a line that is a line
	cuts, oneWay           int     // of lines
	crashes                int
	longest                time.Duration // that a node is off or cut off
	crashAtSync, lateSync  float64       // instead of it; instead of at once
	midSync                float64       // between two commits of one step
	jumps                  int           // of clocks
	skew                   time.Duration // at most
	cases                  int
	attention              float64 // of the offices
	focus                  int     // one in so many things happens anywhere; the others in one district
}

// calm is a plan in which nothing happens.
func calm() plan {
	return plan{
		start: begin.UnixMicro(), beat: 4 * time.Hour, grace: 24 * time.Hour, silence: 48 * time.Hour, around: 72 * time.Hour,
		patience: time.Minute, latency: time.Second,
	}
}

// weeks is how long a history's load and faults last by default.
const weeks = 14 * 24 * time.Hour

func newPlan(r *rand.Rand, length time.Duration) plan {
	day := 24 * time.Hour
	p := plan{
		beat: between(r, 8*time.Hour, 48*time.Hour), patience: between(r, time.Minute, 4*time.Minute),
		latency: between(r, 10*time.Millisecond, 12*time.Second), slowSync: between(r, 10*time.Millisecond, 12*time.Second),
		cuts: r.IntN(7), oneWay: r.IntN(3), crashes: r.IntN(8), longest: between(r, time.Hour, 8*day),
		crashAtSync: float64(r.IntN(4)) * .01, lateSync: float64(r.IntN(5)) * .1, midSync: float64(r.IntN(3)) * .2,
		cases: 8 + r.IntN(30), attention: r.Float64(), focus: 1 + r.IntN(4),
	}
	p.grace = p.beat + between(r, 4*time.Hour, 20*time.Hour)
	p.silence = p.grace + between(r, time.Hour, 2*day)
	p.around = between(r, 4*p.beat, 8*p.beat)
	p.start = begin.Add(day + between(r, 0, 290*day)).UnixMicro()
	p.end = p.start + length.Microseconds()
	if r.IntN(3) == 0 { // a storm
		p.beat = between(r, 4*time.Hour, 12*time.Hour)
		p.grace = p.beat + between(r, time.Hour, 8*time.Hour)
		p.silence, p.around = p.grace+between(r, time.Hour, day), between(r, 3*p.beat, 6*p.beat)
		p.cuts, p.oneWay, p.crashes = 4+r.IntN(16), r.IntN(8), 4+r.IntN(20)
	}
	if r.IntN(3) == 0 { // a line that is none
		p.loss, p.repeat, p.overtake = r.Float64()*.1, r.Float64()*.1, r.Float64()*.2
	}
	if r.IntN(2) == 0 {
		p.skew = between(r, 0, 8*time.Second)
	}
	if r.IntN(3) == 0 {
		p.jumps = 1 + r.IntN(3)
	}
	return p
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}
