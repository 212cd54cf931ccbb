package federation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/federationtest"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// mailbag has letters for everybody, numbered from 0.
type mailbag struct {
	mu      sync.Mutex
	letters int
	most    int // largest answer
}

func (m *mailbag) Next(_ context.Context, child jurisdiction.Code, at []*dubanv1.LetterPosition, maxBytes int) (out []*dubanv1.SyncLetter, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, sender := uint64(0), make([]byte, 16)
	for _, p := range at {
		if p.GetAddressee() == string(child) {
			from, sender = p.GetNumber(), p.GetJournal()
		}
	}
	bytes := 0
	for n := int(from); n < m.letters && bytes < maxBytes; n++ {
		out = append(out, &dubanv1.SyncLetter{ConsistentFrom: uint64(n), Letter: &dubanv1.Letter{Journal: sender, Addressee: string(child),
			Checkpoint: make([]byte, 1000)}})
		bytes += 1000
	}
	m.most = max(m.most, len(out))
	return out, nil
}

func (m *mailbag) write(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.letters += n
}

// letterbox takes letters in order only.
type letterbox struct {
	code jurisdiction.Code
	mu   sync.Mutex
	next uint64
	bad  string
	fail int // Take fails at this number, once
}

func (l *letterbox) position() *dubanv1.LetterPosition {
	return &dubanv1.LetterPosition{Journal: make([]byte, 16), Addressee: string(l.code), Number: l.next}
}

func (l *letterbox) Positions(context.Context) ([]*dubanv1.LetterPosition, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return []*dubanv1.LetterPosition{l.position()}, nil
}

func (l *letterbox) Take(_ context.Context, m *dubanv1.SyncLetter) (*dubanv1.SyncLetterAck, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail > 0 && m.GetConsistentFrom() == uint64(l.fail) {
		l.fail = 0
		return nil, errors.New("disk full")
	}
	if m.GetConsistentFrom() != l.next {
		l.bad = fmt.Sprintf("letter %d came, expected %d", m.GetConsistentFrom(), l.next)
	}
	l.next++
	return &dubanv1.SyncLetterAck{Position: l.position()}, nil
}

func (l *letterbox) taken() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Letters go down in order and once, in portions, after the hello and when there are more; a failure at the child and a
// broken line begin again where the child stands.
func TestLettersRide(t *testing.T) {
	tree := newTree(t)
	parent, child := newStore(t, tree, district), newStore(t, tree, street)
	record(t, parent, 1)
	record(t, child, 1)
	bag, box := &mailbag{letters: 3000}, &letterbox{code: street, fail: 700}
	mid := tree.Start(t, district, parent, federationtest.Options{Below: bag})
	line := federationtest.NewLine(t, mid.Address)
	tree.Start(t, street, child, federationtest.Options{Parent: line.Address, Above: box})
	federationtest.Until(t, "some are taken", func() bool { return box.taken() > 1500 })
	line.Break()
	federationtest.Until(t, "all are taken", func() bool { return box.taken() == 3000 })
	bag.write(5)
	record(t, parent, 1) // what is addressed is an entry
	federationtest.Until(t, "those that came later", func() bool { return box.taken() == 3005 })
	box.mu.Lock()
	defer box.mu.Unlock()
	bag.mu.Lock()
	defer bag.mu.Unlock()
	if box.bad != "" || bag.most > 1100 {
		t.Errorf("%s; %d letters at once", box.bad, bag.most)
	}
}

// files gives bytes by their address in odd portions.
type files struct {
	content map[[32]byte][]byte
	mu      sync.Mutex
	served  int // bytes
}

func (f *files) Serve(ctx context.Context, ask *dubanv1.SyncFetch, send func(*dubanv1.SyncChunk) error) error {
	content, ok := f.content[[32]byte(ask.GetSha256())]
	if !ok {
		return errors.New("no such attachment")
	}
	for at := ask.GetOffset(); ; {
		n := min(uint64(60_000), uint64(len(content))-at)
		if err := send(&dubanv1.SyncChunk{Offset: at, Data: content[at : at+n], Size: uint64(len(content))}); err != nil {
			return err
		}
		f.mu.Lock()
		f.served += int(n)
		f.mu.Unlock()
		if at += n; at == uint64(len(content)) {
			return ctx.Err()
		}
	}
}

// Attachments come up the child's stream on demand: several at a time, resumed by offset after the line broke, given up
// without a trace.
func TestFetch(t *testing.T) {
	tree := newTree(t)
	parent, child := newStore(t, tree, district), newStore(t, tree, street)
	record(t, child, 10)
	mid := tree.Start(t, district, parent, federationtest.Options{})
	var addresses [][32]byte
	have := &files{content: map[[32]byte][]byte{}}
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{5 << 20, 1 << 20, 1, 0} {
		content := make([]byte, n)
		for i := range content {
			content[i] = byte(r.Uint32())
		}
		addresses = append(addresses, sha256.Sum256(content))
		have.content[addresses[len(addresses)-1]] = content
	}
	var fetcher federation.Fetcher = mid.Downlink
	ctx := context.Background()
	if err := fetcher.Fetch(ctx, street, tree.ID(street), addresses[0], 0, nil); !fault.Is(err, fault.Unavailable) {
		t.Errorf("from a child that is not there: %v", err)
	}
	line := federationtest.NewLine(t, mid.Address)
	low := tree.Start(t, street, child, federationtest.Options{Parent: line.Address, Files: have})
	federationtest.Until(t, "the street is there", func() bool { return low.Uplink.Status().Connected })

	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			var got bytes.Buffer
			broken := false
			for {
				err := fetcher.Fetch(ctx, street, tree.ID(street), address, uint64(got.Len()), func(c *dubanv1.SyncChunk) error {
					got.Write(c.GetData())
					if i == 0 && !broken && got.Len() > 2<<20 {
						broken = true
						line.Break()
					}
					return nil
				})
				if err == nil {
					break
				}
				if !fault.Is(err, fault.Unavailable) {
					t.Error(err)
					return
				}
				federationtest.Until(t, "the street is back", func() bool { return low.Uplink.Status().Connected })
			}
			if !bytes.Equal(got.Bytes(), have.content[address]) {
				t.Errorf("attachment %d: %d bytes came", i, got.Len())
			}
		})
	}
	all.Wait()
	have.mu.Lock()
	served := have.served
	have.mu.Unlock()
	if served > 8<<20 {
		t.Errorf("%d bytes were given for 6 MiB: the broken transfer did not resume", served)
	}
	if err := fetcher.Fetch(ctx, street, tree.ID(street), [32]byte{1}, 0, nil); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "no such attachment") {
		t.Errorf("what the child has not: %v", err)
	}
	enough := errors.New("enough")
	if err := fetcher.Fetch(ctx, street, tree.ID(street), addresses[0], 0, func(*dubanv1.SyncChunk) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("given up: %v", err)
	}
	record(t, child, 5)
	federationtest.Until(t, "the journal goes on", func() bool { return size(parent, tree.ID(street)) == 15 })
}

// A node is told what everything above it knows, also by a parent that has not spoken with its own since its start.
func TestKindsComeDown(t *testing.T) {
	tree := newTree(t)
	middle, low := newStore(t, tree, district), newStore(t, tree, street)
	record(t, middle, 1)
	record(t, low, 1)
	announce := func(kinds ...uint32) {
		t.Helper()
		_, errs := middle.Append(context.Background(), store.Command{Changes: []store.Change{{
			Table: federation.Announced, Owner: middle.Own(), Row: federation.Announcement(kinds, 1)}}})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	announce(20, 21, 4_000_000)
	mid := tree.Start(t, district, middle, federationtest.Options{})
	leaf := tree.Start(t, street, low, federationtest.Options{Parent: mid.Address})
	told := func(kinds ...uint32) func() bool {
		return func() bool { return slices.Equal(leaf.Uplink.Status().Kinds, kinds) }
	}
	federationtest.Until(t, "the street is told what the city knows", told(20, 21))
	announce(20, 21, 22)
	federationtest.Until(t, "the street is told of the upgrade", told(20, 21, 22))
	leaf.Stop()
	mid.Stop()
	again := tree.Start(t, street, low, federationtest.Options{Parent: "127.0.0.1:1"})
	if !told(20, 21, 22)() && !slices.Equal(again.Uplink.Status().Kinds, []uint32{20, 21, 22}) {
		t.Errorf("forgotten by a restart: %v", again.Uplink.Status().Kinds)
	}
}

// An entry of a kind that the parent doesn't know is stored and acknowledged like any other.
func TestUnknownKindIsAcknowledged(t *testing.T) {
	tree := newTree(t)
	parent := newStore(t, tree, district)
	child := federationtest.NewStore(tree.ID(street), clock.System())
	p := store.Proposal{Stream: "case/1", Kind: 4_000_000, Actor: "agency:x", Payload: []byte("of a later version")}
	if _, errs := child.Append(context.Background(), store.Command{Entries: []store.Proposal{p}}); errors.Join(errs...) != nil {
		t.Fatal(errs)
	}
	record(t, child, 10)
	mid := tree.Start(t, district, parent, federationtest.Options{})
	low := tree.Start(t, street, child, federationtest.Options{Parent: mid.Address})
	federationtest.Until(t, "all is acknowledged", func() bool { return low.Uplink.Status().Acknowledged[tree.ID(street)] == 11 })
	federationtest.Until(t, "the fold stops in sight", func() bool {
		info, _ := parent.Journal(tree.ID(street))
		return info.Stopped != "" && info.Folded == 0
	})
	same(t, child, parent, tree.ID(street))
}

// What people settled is taken again where it extends what is held; the same fork is refused again, with evidence.
func TestReadmission(t *testing.T) {
	tree := newTree(t)
	parent, child := newStore(t, tree, district), federationtest.NewStore(tree.ID(street), clock.System())
	id := tree.ID(street)
	record(t, child, 20)
	child.Tamper(id, 15, []byte("nothing happened"))
	mid := tree.Start(t, district, parent, federationtest.Options{})
	low := tree.Start(t, street, child, federationtest.Options{Parent: mid.Address})
	readmit := func(reason string) {
		t.Helper()
		payload, err := proto.Marshal(&dubanv1.JournalReadmitted{Journal: id[:], Code: string(street), Reason: reason, DecidedBy: "office:x"})
		if err != nil {
			t.Fatal(err)
		}
		_, errs := parent.Append(context.Background(), store.Command{Entries: []store.Proposal{{Stream: federation.PeerStream(id),
			Kind: uint32(dubanv1.EntryKind_ENTRY_KIND_JOURNAL_READMITTED), Actor: "office:x", Payload: payload}}})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(n int) {
		t.Helper()
		federationtest.Until(t, "the street is refused", func() bool { return low.Uplink.Status().Refused[id] != "" && len(evidence(t, parent)) == n })
	}
	refused(1)
	readmit("said to be mended")
	refused(2)
	low.Stop()
	entries := all(t, child, id)
	mended := federationtest.NewStore(id, clock.System())
	for _, e := range entries[:15] {
		mended.Put(id, e)
	}
	tree.Start(t, street, mended, federationtest.Options{Parent: mid.Address})
	readmit("mended")
	federationtest.Until(t, "it is taken again", func() bool { return size(parent, id) == 15 })
	if st := mid.Downlink.Status()[id]; st.Refused != "" {
		t.Errorf("%+v", st)
	}
}
