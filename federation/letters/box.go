package letters

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Box takes letters from above. It implements federation.Above; its methods may be called from many goroutines, and letters
// are taken one at a time.
type Box struct {
	cfg    Config
	own    journal.ID
	parent topology.Node
	above  map[journal.ID]topology.Node
	taken  *prometheus.CounterVec

	mu    sync.Mutex
	again map[feedOf]tries
}

// feedOf is one sender's feed for one addressee.
type feedOf struct {
	sender    journal.ID
	addressee jurisdiction.Code
}

// tries counts what could not be taken where a feed stands, and may come right.
type tries struct {
	number, size uint64 // where it stands
	first        string // what came first
	same, all    int    // how often that came, and anything
}

// How often something may be sent again before somebody is blamed: more often than any line loses or overtakes it.
const (
	patience      = 8
	patienceAtAll = 1000
)

var _ federation.Above = (*Box)(nil)

// NewBox makes one. Kind of errors: fault.Invalid.
func NewBox(cfg Config) (*Box, error) {
	cfg, err := cfg.prepared()
	if err != nil {
		return nil, err
	}
	b := &Box{cfg: cfg, own: cfg.Store.Own(), above: map[journal.ID]topology.Node{}, again: map[feedOf]tries{},
		taken: counter(cfg.Metrics, "received_total", "Letters from above, by what became of them.", "outcome")}
	for i, n := range cfg.above() {
		if i == 0 {
			b.parent = n
		}
		b.above[n.Journal] = n
	}
	return b, nil
}

const (
	scanPage = 512
	largest  = journal.MaxPayload - 1<<10 // of a letter, so that an entry holds it
)

// Positions says where this node stands with every sender, for itself and for each jurisdiction below it.
func (b *Box) Positions(ctx context.Context) ([]*dubanv1.LetterPosition, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*dubanv1.LetterPosition
	for _, n := range b.cfg.above() {
		h, err := b.head(ctx, n.Journal)
		if err != nil {
			return nil, err
		}
		own := false
		from := []any{n.Journal[:]}
		for more := true; more; {
			rows, err := b.cfg.Store.Scan(ctx, b.own, At, from, scanPage)
			if err != nil {
				return nil, err
			}
			more = len(rows) == scanPage
			for i, row := range rows {
				if journal.ID(row[0].([]byte)) != n.Journal {
					more = false
					break
				}
				if len(from) > 1 && i == 0 {
					continue // the last one of the page before
				}
				own = own || row[1].(string) == string(b.cfg.Code)
				out = append(out, &dubanv1.LetterPosition{Journal: n.Journal[:], Addressee: row[1].(string), Number: uint64(row[2].(int64)), Size: h.size})
			}
			if more {
				last := rows[len(rows)-1]
				from = []any{last[0], last[1]}
			}
		}
		if !own && h.size > 0 {
			// A checkpoint may be kept before the first letter.
			out = append(out, &dubanv1.LetterPosition{Journal: n.Journal[:], Addressee: string(b.cfg.Code), Size: h.size})
		}
	}
	return out, nil
}

func (b *Box) head(ctx context.Context, sender journal.ID) (head, error) {
	row, ok, err := b.cfg.Store.Get(ctx, b.own, Head, sender[:])
	if err != nil || !ok {
		return head{}, err
	}
	h, err := headOf(row)
	if err != nil {
		return h, fault.New(fault.Corrupt, "kept checkpoint of journal %s: %w", sender, err)
	}
	return h, nil
}

// verdict is what comes of a letter: what to store, and where that leaves the feed.
type verdict struct {
	outcome string // for the metric
	sender  journal.ID
	head    head // kept now
	number  uint64
	command *store.Command // nil where there is nothing to store
	wrong   *refusal
}

// Take verifies a letter and makes it durable. What is wrong with it is said in the answer and kept as evidence; an error
// is this node's own.
func (b *Box) Take(ctx context.Context, m *dubanv1.SyncLetter) (*dubanv1.SyncLetterAck, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, err := b.judge(ctx, m)
	if err != nil {
		return nil, err
	}
	if v.wrong != nil && v.wrong.again && b.patient(&v, m.GetLetter()) {
		v.outcome, v.wrong, v.command = "again", nil, nil
	}
	if v.wrong != nil {
		err = b.keep(ctx, &v, m.GetLetter())
	} else if v.command != nil {
		err = b.store(ctx, *v.command)
	}
	if err != nil {
		return nil, err
	}
	b.taken.WithLabelValues(v.outcome).Inc()
	ack := &dubanv1.SyncLetterAck{Position: &dubanv1.LetterPosition{
		Journal: m.GetLetter().GetJournal(), Addressee: m.GetLetter().GetAddressee(), Number: v.number, Size: v.head.size}}
	if v.wrong != nil {
		ack.Refused = v.wrong.reason
	}
	return ack, nil
}

// patient says whether what can't be taken now is answered only by where the feed stands. A letter that was lost on the way
// makes those after it come too early, and positions cross letters: told the position, an honest sender does better.
func (b *Box) patient(v *verdict, l *dubanv1.Letter) bool {
	feed := feedOf{v.sender, jurisdiction.Code(l.GetAddressee())}
	t := b.again[feed]
	what := fmt.Sprintf("%x", sha256.Sum256(append(append([]byte(nil), l.GetCheckpoint()...), l.GetAddressed().GetHeader()...)))
	if t.first == "" || t.number != v.number || t.size != v.head.size {
		t = tries{number: v.number, size: v.head.size, first: what}
	}
	if t.all++; t.first == what {
		t.same++
	}
	b.again[feed] = t
	return t.same < patience && t.all < patienceAtAll
}

func (b *Box) store(ctx context.Context, c store.Command) error {
	for i := range c.Entries {
		c.Entries[i].Seal()
	}
	results, errs := b.cfg.Store.Append(ctx, c)
	if errs[0] != nil {
		return fmt.Errorf("storing a letter: %w", errs[0])
	}
	if results[0].Duplicate && len(c.Changes) > 0 {
		// The journal has it and the tables had lost it: the node was restored without them.
		if _, errs := b.cfg.Store.Append(ctx, store.Command{Changes: c.Changes}); errs[0] != nil {
			return fmt.Errorf("storing where letters stand: %w", errs[0])
		}
	}
	return nil
}

// judge decides about a letter.
func (b *Box) judge(ctx context.Context, m *dubanv1.SyncLetter) (v verdict, err error) {
	l := m.GetLetter()
	v.outcome = "refused"
	sender, known := topology.Node{}, false
	if id, err := journal.IDFrom(l.GetJournal()); err == nil {
		sender, known = b.above[id]
	}
	if !known {
		v.wrong = refuse(wrongSender, "%x is no journal above %s", clip(l.GetJournal(), 16), b.cfg.Code)
		return v, nil
	}
	v.sender = sender.Journal
	if v.head, err = b.head(ctx, sender.Journal); err != nil {
		return v, err
	}
	addressee := jurisdiction.Code(l.GetAddressee())
	bare := l.GetAddressed() == nil && len(l.GetEntries()) == 0
	if !b.cfg.Tree.Within(addressee, b.cfg.Code) {
		v.wrong = refuse(wrongAddressee, "%.20q is neither %s nor below it", string(addressee), b.cfg.Code)
		return v, nil
	}
	row, at, err := b.cfg.Store.Get(ctx, b.own, At, sender.Journal[:], string(addressee))
	if err != nil {
		return v, err
	}
	last := int64(-1)
	if at {
		v.number, last = uint64(row[2].(int64)), row[3].(int64)
	}
	if lifted, err := b.blocked(ctx, &v); err != nil || !lifted {
		return v, err
	}
	if n := proto.Size(l); n > largest {
		v.wrong = refuse(wrongEntry, "a letter of %d bytes, at most %d are allowed", n, largest)
		return v, nil
	}
	point, err := sender.Key.Open(l.GetCheckpoint())
	if err != nil {
		v.wrong = refuse(wrongSignature, "%v", err)
		return v, nil
	}
	near, next, err := b.near(ctx, sender.Journal, point.Size)
	if err != nil {
		return v, err
	}
	way, wrong := linked(v.head, point, near, m)
	if v.wrong = wrong; wrong != nil {
		return v, nil
	}
	c := &store.Command{}
	kept := v.head
	switch way {
	case linkFirst, linkLater:
		since := v.head.size
		v.head = head{size: point.Size, note: l.GetCheckpoint(), point: point}
		c.Changes = append(c.Changes, v.head.change(b.own, sender.Journal), store.Change{Table: Mark, Owner: b.own,
			Row: store.Row{sender.Journal[:], int64(point.Size), l.GetCheckpoint(), int64(since), joined(m.GetConsistency())}})
	case linkEarlier:
		c.Changes = append(c.Changes, store.Change{Table: Mark, Owner: b.own,
			Row: store.Row{sender.Journal[:], int64(point.Size), l.GetCheckpoint(), int64(0), nil}})
		if next != nil && next[3] == int64(0) && near.next.Extends(point, proofOf(m)) == nil {
			// The first mark of the way that was known: the way is longer now.
			c.Changes = append(c.Changes, store.Change{Table: Mark, Owner: b.own,
				Row: store.Row{next[0], next[1], next[2], int64(point.Size), joined(m.GetConsistency())}})
		}
	}
	if bare {
		v.outcome = "checkpoint"
		if len(c.Changes) > 0 {
			v.command = c
		}
		return v, nil
	}
	o, wrong := open(l, point, kept)
	if wrong == nil {
		wrong = placed(o, v.number, last)
	}
	switch {
	case wrong != nil:
		v.wrong, v.head = wrong, kept
		return v, nil
	case o.number < v.number:
		v.outcome = "duplicate"
		if len(c.Changes) > 0 {
			v.command = c
		}
		return v, nil
	}
	v.outcome, v.number, v.command = "taken", o.number+o.count, c
	return v, b.deliver(c, l, o, point.Size)
}

// placed says whether a letter's number may stand here: what comes again must be older than what came last.
func placed(o opened, wanted uint64, last int64) *refusal {
	entry := int64(o.addressed.Number)
	switch {
	case o.number > wanted:
		return refuse(wrongGap, "number %d came where %d is wanted: what lies between was held back", o.number, wanted)
	case o.number == wanted && entry > last, o.number+o.count <= wanted && entry <= last:
		return nil
	}
	r := refuse(provenNumber, "entry %d gives the numbers from %d to %d, and the numbers up to %d had been given up to entry %d",
		o.addressed.Number, o.number, o.number+o.count-1, wanted, last)
	r.from = o.addressed.Number
	return r
}

// deliver adds the letter itself: an entry of the own journal, or a row for those below.
func (b *Box) deliver(c *store.Command, l *dubanv1.Letter, o opened, mark uint64) error {
	sender := l.GetJournal()
	c.Changes = append(c.Changes, store.Change{Table: At, Owner: b.own,
		Row: store.Row{sender, l.GetAddressee(), int64(o.number + o.count), int64(o.addressed.Number)}})
	if jurisdiction.Code(l.GetAddressee()) != b.cfg.Code {
		body, err := proto.Marshal(l)
		if err != nil {
			return err
		}
		c.Changes = append(c.Changes, store.Change{Table: Letter, Owner: b.own, Row: store.Row{sender, l.GetAddressee(), int64(o.number),
			int64(o.addressed.Number), int64(o.count), int64(mark), body}})
		return nil
	}
	payload, err := proto.Marshal(&dubanv1.ReceivedFromAbove{Letter: l})
	if err != nil {
		return err
	}
	c.Natural = fmt.Sprintf("letter/%x/%d", sender, o.number)
	c.Entries = []store.Proposal{{Stream: fmt.Sprintf("letters/%x", sender), Kind: kindReceived, Actor: "node:" + string(b.cfg.Code), Payload: payload}}
	return nil
}

// near finds the marks next to a size; next is the row of the one that follows.
func (b *Box) near(ctx context.Context, sender journal.ID, size uint64) (near marks, next store.Row, err error) {
	rows, err := b.cfg.Store.Scan(ctx, b.own, Mark, []any{sender[:], int64(size)}, 2)
	if err != nil {
		return near, nil, err
	}
	for _, row := range rows {
		if journal.ID(row[0].([]byte)) != sender {
			break
		}
		point, err := journal.ParseCheckpoint(row[2].([]byte))
		if err != nil {
			return near, nil, fault.New(fault.Corrupt, "mark %d of journal %s: %w", row[1], sender, err)
		}
		if point.Size == size {
			near.same = &point
		} else if near.next == nil {
			near.next, next = &point, row
		}
	}
	return near, next, nil
}

// proofOf is a letter's consistency proof, which has been read before.
func proofOf(m *dubanv1.SyncLetter) []tlog.Hash {
	proof, _ := fromWire(m.GetConsistency()) // checked
	return proof
}

// blocked says whether letters of a sender are taken: again, where people readmitted its journal.
func (b *Box) blocked(ctx context.Context, v *verdict) (ok bool, err error) {
	if v.head.blocked == "" {
		return true, nil
	}
	_, still, err := b.cfg.Store.Get(ctx, b.own, federation.PeerRefusal, v.sender[:])
	if err != nil {
		return false, err
	}
	if still {
		v.wrong = &refusal{reason: "refused before: " + v.head.blocked}
		return false, nil
	}
	v.head.blocked = ""
	return true, b.store(ctx, store.Command{Changes: []store.Change{v.head.change(b.own, v.sender)}})
}

// keep keeps the evidence, once for each kind of wrong at each place of a feed.
func (b *Box) keep(ctx context.Context, v *verdict, l *dubanv1.Letter) error {
	if v.wrong.kind == "" {
		return nil
	}
	b.cfg.Log.Error("a letter from above was refused", slog.String("sender", fmt.Sprintf("%x", clip(l.GetJournal(), 16))),
		slog.String("addressee", fmt.Sprintf("%.20q", l.GetAddressee())), slog.String("kind", v.wrong.kind), slog.String("reason", v.wrong.reason))
	// What isn't of a journal above is held against who handed it down: a journal below must not be refused by it.
	against := b.parent
	if n, ok := b.above[v.sender]; ok {
		against = n
	}
	if against.Journal.IsZero() {
		return nil // a city: nobody hands it anything
	}
	refused := clip(l.GetCheckpoint(), journal.MaxCheckpoint)
	payload, err := proto.Marshal(&dubanv1.PeerRefused{Journal: against.Journal[:], Code: string(against.Code),
		Reason: "letter handed down to " + string(b.cfg.Code) + ": " + v.wrong.reason, AcceptedCheckpoint: v.head.note, RefusedCheckpoint: refused,
		From: v.wrong.from})
	if err != nil {
		return err
	}
	// What names a place is what this node holds, never what came: whoever sends nonsense gets one entry for it.
	feed := "-"
	if b.cfg.Tree.Within(jurisdiction.Code(l.GetAddressee()), b.cfg.Code) {
		feed = l.GetAddressee()
	}
	place := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", v.wrong.kind, feed, v.number))
	c := store.Command{
		Natural: fmt.Sprintf("letter-refused/%s/%x", against.Journal, place[:8]),
		Entries: []store.Proposal{{Stream: federation.PeerStream(against.Journal), Kind: kindRefused, Actor: "node:" + string(b.cfg.Code), Payload: payload}},
	}
	if v.wrong.proven {
		v.head.blocked = v.wrong.reason
		c.Changes = []store.Change{v.head.change(b.own, v.sender)}
	}
	return b.store(ctx, c)
}

func clip[T ~[]byte](b T, most int) T { return b[:min(len(b), most)] }
