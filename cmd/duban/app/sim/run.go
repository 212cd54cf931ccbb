package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"duban.internal/node/clock"
)

// Options say which histories are told.
type Options struct {
	Seed      uint64        // of the first history; the next has the next
	Histories int           // how many; 0 for as many as fit into Within
	Within    time.Duration // real time; 0 for no bound
	Length    time.Duration // virtual, of each: two weeks where 0
	Nodes     int           // of the tree: 20 where 0
	Workers   int           // GOMAXPROCS where 0
	Trace     io.Writer     // every event in words; one worker only
	Clock     clock.Clock   // of the machine where nil: for Within and the figures
	// Progress is called now and then with what was told so far; nil for nobody.
	Progress func(Report)
}

// Report is what came of it.
type Report struct {
	Seed      uint64        `json:"seed"`
	Histories int           `json:"histories"`
	Nodes     int           `json:"nodes"`
	Virtual   time.Duration `json:"virtual_ns"` // of one history's load
	Took      time.Duration `json:"took_ns"`
	Steps     int           `json:"steps"`
	Entries   int           `json:"entries"`
	Levels    int           `json:"levels"`     // opened
	Silent    int           `json:"on_silence"` // of these, for want of word
	Withdrawn int           `json:"withdrawn"`
	Claimed   int           `json:"claimed"` // of these, on a journal's own word
	Handled   int           `json:"handled"`
	Disputed  int           `json:"disputed"`
	Around    int           `json:"around"` // how often a node went around its parent
	Crashes   int           `json:"crashes"`
	Refused   int           `json:"refused"` // requests
	Hash      string        `json:"hash"`    // over the hashes of all traces, by seed
	Violation *Violation    `json:"violation,omitempty"`
}

// PerMinute is how many histories a minute of real time took.
func (r Report) PerMinute() float64 {
	if r.Took <= 0 {
		return 0
	}
	return float64(r.Histories) / r.Took.Minutes()
}

// told is what one history came to.
type outcome struct {
	seed  uint64
	hash  string
	steps int
	sight sight
	ups   int
	bad   *Violation
}

// Tell runs one history and gives its outcome.
func (c *city) tell(seed uint64, length time.Duration, out io.Writer) (o outcome) {
	h := newHistory(c, seed, planOf(seed, length), out)
	func() {
		defer func() {
			if r := recover(); r != nil {
				buf := make([]byte, 4096)
				h.fail(h.nodes[0], "nothing panics", "%v\n%s", r, buf[:runtime.Stack(buf, false)])
			}
		}()
		h.tell()
	}()
	o = outcome{seed: seed, hash: h.trace.sum(), steps: h.steps, sight: h.sight, bad: h.bad}
	for _, n := range h.nodes {
		o.ups += n.life - 1
	}
	return o
}

// Run tells histories until there were enough, time is up, or one breaks an invariant: then Report.Violation says which.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Length == 0 {
		o.Length = weeks
	}
	if o.Nodes == 0 {
		o.Nodes = 20
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Trace != nil {
		o.Workers = 1
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	c, err := newCity(o.Nodes)
	if err != nil {
		return Report{}, err
	}
	begun := o.Clock.Now()
	r := Report{Seed: o.Seed, Nodes: o.Nodes, Virtual: o.Length}
	var (
		mu     sync.Mutex
		next   uint64
		hashes = map[uint64]string{}
		group  sync.WaitGroup
		shown  = begun
	)
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		enough := o.Histories > 0 && next >= uint64(o.Histories) || o.Within > 0 && o.Clock.Now().Sub(begun) >= o.Within
		if enough || r.Violation != nil || ctx.Err() != nil {
			return 0, false
		}
		next++
		return o.Seed + next - 1, true
	}
	for range o.Workers {
		group.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				out := c.tell(seed, o.Length, o.Trace)
				mu.Lock()
				hashes[seed] = out.hash
				r.add(out)
				r.Took = o.Clock.Now().Sub(begun)
				if o.Progress != nil && o.Clock.Now().Sub(shown) > 500*time.Millisecond {
					shown = o.Clock.Now()
					o.Progress(r)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	all := sha256.New()
	for seed := o.Seed; seed < o.Seed+next; seed++ {
		fmt.Fprintln(all, seed, hashes[seed])
	}
	r.Hash = hex.EncodeToString(all.Sum(nil))
	r.Took = o.Clock.Now().Sub(begun)
	return r, ctx.Err()
}
