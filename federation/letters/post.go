package letters

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Post says what is to be sent to a child: letters of the own journal, made when they are asked for, and letters from
// above, as they came. It implements federation.Below; its methods may be called from many goroutines.
type Post struct {
	cfg  Config
	own  journal.ID
	sent *prometheus.CounterVec

	mu      sync.Mutex // one mark at a time
	said    map[string]bool
	known   map[int64]tlog.Hash
	ends    map[jurisdiction.Code]uint64 // where own numbers stood
	folded  uint64                       // when this many own entries were folded
	subtree map[jurisdiction.Code][]jurisdiction.Code
}

var _ federation.Below = (*Post)(nil)

// NewPost makes one. Kind of errors: fault.Invalid.
func NewPost(cfg Config) (*Post, error) {
	cfg, err := cfg.prepared()
	if err != nil {
		return nil, err
	}
	if cfg.Key == nil {
		return nil, fault.Refuse(fault.Invalid, "letters", fault.Field{Field: "Key", Description: "is missing"})
	}
	p := &Post{cfg: cfg, own: cfg.Store.Own(), said: map[string]bool{}, known: map[int64]tlog.Hash{}, subtree: map[jurisdiction.Code][]jurisdiction.Code{},
		sent: counter(cfg.Metrics, "sent_entries_total", "Entries sent down in letters, by whose they are.", "from")}
	// Who lies below whom, once: a Tree doesn't change.
	for _, n := range cfg.Tree.All() {
		for _, code := range cfg.path(n.Code) {
			if cfg.below(n.Code, cfg.Code) {
				p.subtree[code] = append(p.subtree[code], n.Code)
			}
		}
	}
	return p, nil
}

// feed is what one sender has for one addressee and the child hasn't.
type feed struct {
	sender    journal.ID
	addressee jurisdiction.Code
	next      uint64 // number that is to be sent next
	end       uint64 // first number that is not there
	page      []due
}

// due is one letter.
type due struct {
	number, entries uint64
	entry           uint64 // number of the Addressed entry in the sender's journal
	mark            uint64 // of a letter from above
	letter          []byte // likewise, where it has been read
}

const pageOf = 32

// Next gives letters for a child and those below it, from the positions at which it stands, of about most bytes together
// and at least one where there is one. Letters of one sender come in the order of its journal.
//
// The caller asks again with the positions that the answers said, or, to have more on the way, with those that follow from
// what was sent: each letter moves its addressee's number by its entries and the sender's size to its checkpoint's.
// Positions that lag behind what is on the way cost a second sending and do no harm.
func (p *Post) Next(ctx context.Context, child jurisdiction.Code, at []*dubanv1.LetterPosition, most int) ([]*dubanv1.SyncLetter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	below, ok := p.subtree[child]
	if !ok {
		return nil, fault.New(fault.Denied, "%s does not lie below %s", child, p.cfg.Code)
	}
	most = max(1, min(most, federation.MaxMessage))
	wanted, sizes := map[journal.ID]map[jurisdiction.Code]uint64{}, map[journal.ID]uint64{}
	for _, l := range at {
		id, err := journal.IDFrom(l.GetJournal())
		if err != nil || l.GetNumber() > journal.MaxSize || l.GetSize() > journal.MaxSize {
			continue
		}
		if wanted[id] == nil {
			wanted[id] = map[jurisdiction.Code]uint64{}
		}
		wanted[id][jurisdiction.Code(l.GetAddressee())] = l.GetNumber()
		sizes[id] = max(sizes[id], l.GetSize())
	}
	var out []*dubanv1.SyncLetter
	senders := []journal.ID{p.own}
	for _, n := range p.cfg.above() {
		senders = append(senders, n.Journal)
	}
	for _, sender := range senders {
		feeds, err := p.feeds(ctx, sender, below, wanted[sender])
		if err != nil {
			return nil, err
		}
		l := &line{Post: p, sender: sender, feeds: feeds, kept: sizes[sender], left: &most}
		more, err := l.send(ctx)
		out = append(out, more...)
		if err != nil || most <= 0 {
			return out, err
		}
	}
	return out, nil
}

// feeds finds what one sender has for a child.
func (p *Post) feeds(ctx context.Context, sender journal.ID, below []jurisdiction.Code, wanted map[jurisdiction.Code]uint64) ([]*feed, error) {
	var out []*feed
	if sender == p.own {
		if err := p.stand(ctx); err != nil {
			return nil, err
		}
	}
	for _, code := range below {
		end := p.ends[code]
		if sender != p.own {
			row, ok, err := p.cfg.Store.Get(ctx, p.own, At, sender[:], string(code))
			if err != nil {
				return nil, err
			}
			if end = 0; ok {
				end = uint64(row[2].(int64))
			}
		}
		if f := (&feed{sender: sender, addressee: code, next: wanted[code], end: end}); f.next < f.end {
			out = append(out, f)
		}
	}
	return out, nil
}

// stand reads where own numbers stand, once for each size of the journal: hundreds of children ask at the same one.
func (p *Post) stand(ctx context.Context) error {
	info, ok := p.cfg.Store.Journal(p.own)
	if !ok || p.ends != nil && info.Folded == p.folded {
		return nil
	}
	ends := map[jurisdiction.Code]uint64{}
	for from := []any(nil); ; {
		rows, err := p.cfg.Store.Scan(ctx, p.own, Next, from, scanPage)
		if err != nil {
			return err
		}
		for _, row := range rows {
			ends[jurisdiction.Code(row[0].(string))] = uint64(row[1].(int64))
		}
		if len(rows) < scanPage {
			break
		}
		from = []any{rows[len(rows)-1][0]}
	}
	p.ends, p.folded = ends, info.Folded
	return nil
}

// fill reads the next letters of a feed, without what is in them.
func (p *Post) fill(ctx context.Context, f *feed) error {
	if len(f.page) > 0 || f.next >= f.end {
		return nil
	}
	if f.sender != p.own {
		// Letters are read one by one: a page of them would be large.
		row, ok, err := p.cfg.Store.Get(ctx, p.own, Letter, f.sender[:], string(f.addressee), int64(f.next))
		if err != nil {
			return err
		}
		if ok {
			body, _ := row[6].([]byte)
			f.page = []due{{number: f.next, entry: uint64(row[3].(int64)), entries: uint64(row[4].(int64)), mark: uint64(row[5].(int64)), letter: body}}
		}
	} else {
		rows, err := p.cfg.Store.Scan(ctx, p.own, Sent, []any{string(f.addressee), int64(f.next)}, int(min(pageOf, f.end-f.next)))
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row[0].(string) == string(f.addressee) {
				f.page = append(f.page, due{number: uint64(row[1].(int64)), entry: uint64(row[2].(int64)), entries: uint64(row[3].(int64))})
			}
		}
	}
	if len(f.page) == 0 || f.page[0].number != f.next {
		p.say("a child wants a number at which no letter begins: nothing is sent", f.sender, f.addressee, f.next)
		f.page, f.end = nil, f.next
	}
	return nil
}

// line sends what one sender has for one child.
type line struct {
	*Post
	sender journal.ID
	feeds  []*feed
	kept   uint64 // size that the child will have kept by then
	left   *int
	out    []*dubanv1.SyncLetter
}

func (l *line) send(ctx context.Context) ([]*dubanv1.SyncLetter, error) {
	for *l.left > 0 {
		var first *feed
		for _, f := range l.feeds {
			if err := l.fill(ctx, f); err != nil {
				return l.out, err
			}
			if len(f.page) > 0 && (first == nil || f.page[0].entry < first.page[0].entry) {
				first = f
			}
		}
		if first == nil {
			break
		}
		letter, size, err := l.letter(ctx, first, first.page[0])
		if err != nil {
			return l.out, err
		}
		if on, err := l.put(ctx, letter, first.addressee, size); err != nil || !on {
			return l.out, err
		}
		l.sent.WithLabelValues(l.from()).Add(float64(first.page[0].entries))
		first.next, first.page = first.next+first.page[0].entries, first.page[1:]
	}
	return l.out, nil
}

func (l *line) from() string {
	if l.sender == l.own {
		return "own"
	}
	return "above"
}

func (l *line) letter(ctx context.Context, f *feed, r due) (*dubanv1.Letter, uint64, error) {
	if l.sender == l.own {
		return l.build(ctx, f, r)
	}
	letter := new(dubanv1.Letter)
	if err := proto.Unmarshal(r.letter, letter); err != nil {
		return nil, 0, fault.New(fault.Corrupt, "letter %d of journal %s for %s: %w", r.number, f.sender, f.addressee, err)
	}
	return letter, r.mark, nil
}

// put adds a letter with what leads from the child's checkpoint to the letter's. on is false where the rest of this line
// has to wait.
func (l *line) put(ctx context.Context, letter *dubanv1.Letter, addressee jurisdiction.Code, size uint64) (on bool, err error) {
	m := &dubanv1.SyncLetter{Letter: letter}
	switch {
	case l.kept == size || l.kept == 0:
	case l.sender == l.own:
		older, newer := min(l.kept, size), max(l.kept, size)
		if info, ok := l.cfg.Store.Journal(l.own); !ok || newer > info.Size {
			l.say("a child keeps a checkpoint of this journal beyond its end: was this node restored from an old copy?", l.sender, addressee, newer)
			return false, nil
		}
		hashes, err := l.tree()
		if err != nil {
			return false, err
		}
		proof, err := journal.ProveConsistency(hashes, older, newer)
		if err != nil {
			return false, err
		}
		m.ConsistentFrom, m.Consistency = older, toWire(proof)
	case l.kept < size:
		if on, err := l.lead(ctx, m, addressee, size); err != nil || !on {
			return false, err
		}
	default:
		if on, err := l.leadBack(ctx, m, addressee, size); err != nil || !on {
			return false, err
		}
	}
	l.kept = max(l.kept, size)
	l.add(m)
	return *l.left > 0, nil
}

func (l *line) add(m *dubanv1.SyncLetter) {
	l.out = append(l.out, m)
	*l.left -= proto.Size(m) + overhead/16
}

// lead sends the marks between the child's and the letter's, which comes with the last step.
func (l *line) lead(ctx context.Context, m *dubanv1.SyncLetter, addressee jurisdiction.Code, size uint64) (on bool, err error) {
	for l.kept < size {
		rows, err := l.cfg.Store.Scan(ctx, l.own, Mark, []any{l.sender[:], int64(l.kept) + 1}, pageOf)
		if err != nil {
			return false, err
		}
		before := l.kept
		for _, row := range rows {
			to, since := uint64(row[1].(int64)), uint64(row[3].(int64))
			if journal.ID(row[0].([]byte)) != l.sender || to > size {
				break
			}
			if since != l.kept {
				continue // beside the way
			}
			proof, _ := row[4].([]byte)
			if to == size {
				m.ConsistentFrom, m.Consistency = since, cut(proof)
				l.kept = to
				return true, nil
			}
			note, _ := row[2].([]byte)
			l.add(&dubanv1.SyncLetter{Letter: &dubanv1.Letter{Journal: l.sender[:], Addressee: string(addressee), Checkpoint: note},
				ConsistentFrom: since, Consistency: cut(proof)})
			if l.kept = to; *l.left <= 0 {
				return false, nil
			}
		}
		if l.kept == before {
			l.say("no way leads from the checkpoint that a child keeps to the next letter from above", l.sender, addressee, before)
			return false, nil
		}
	}
	return true, nil
}

// mostBack bounds the marks between a child's and an earlier letter's.
const mostBack = 4096

// leadBack sends the marks between the child's and an earlier letter's, from the later to the earlier. It is only needed
// where the child was given marks and not the letters under them; those that it has change nothing there.
func (l *line) leadBack(ctx context.Context, m *dubanv1.SyncLetter, addressee jurisdiction.Code, size uint64) (on bool, err error) {
	row, ok, err := l.cfg.Store.Get(ctx, l.own, Mark, l.sender[:], int64(l.kept))
	for range mostBack {
		if err != nil {
			return false, err
		}
		since := uint64(0)
		if ok {
			since = uint64(row[3].(int64))
		}
		if since < size || since == 0 {
			break
		}
		proof, _ := row[4].([]byte)
		if since == size {
			m.ConsistentFrom, m.Consistency = since, cut(proof)
			return true, nil
		}
		if row, ok, err = l.cfg.Store.Get(ctx, l.own, Mark, l.sender[:], int64(since)); ok {
			note, _ := row[2].([]byte)
			l.add(&dubanv1.SyncLetter{Letter: &dubanv1.Letter{Journal: l.sender[:], Addressee: string(addressee), Checkpoint: note},
				ConsistentFrom: since, Consistency: cut(proof)})
		}
	}
	l.say("no way leads back from the checkpoint that a child keeps to the next letter from above", l.sender, addressee, l.kept)
	return false, nil
}

// say logs what keeps a feed from going on, once.
func (p *Post) say(what string, sender journal.ID, addressee jurisdiction.Code, at uint64) {
	key := fmt.Sprint(what, sender, addressee, at)
	if p.said[key] {
		return
	}
	if len(p.said) > 1000 {
		clear(p.said)
	}
	p.said[key] = true
	p.cfg.Log.Error(what, slog.String("sender", sender.String()), slog.String("addressee", string(addressee)), slog.Uint64("at", at))
}
