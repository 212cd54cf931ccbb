package downlink_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/downlink"
	"duban.internal/federation/federationtest"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	dubanv1 "duban.internal/proto/duban/v1"
)

func key(t testing.TB) *journal.Key {
	t.Helper()
	private, _, err := journal.GenerateKey(journal.ID{1})
	if err != nil {
		t.Fatal(err)
	}
	k, err := journal.ParseKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// chain has n entries, recorded at 10, 20, 30, ...
func chain(t testing.TB, n int) *federationtest.Chain {
	c := federationtest.NewChain(key(t))
	for i := range n {
		c.Add(int64(10*(i+1)), fmt.Sprint("payload ", i))
	}
	return c
}

// accepted has taken a chain's entries up to size.
func accepted(t testing.TB, c *federationtest.Chain, size int) *downlink.Copy {
	t.Helper()
	cp, err := downlink.NewCopy(downlink.State{Key: c.Key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if size > 0 {
		if _, err := cp.Batch(c.Batch(0, size)); err != nil {
			t.Fatal(err)
		}
	}
	return cp
}

func TestBatchesAreTaken(t *testing.T) {
	c := chain(t, 10)
	cp := accepted(t, c, 0)
	for _, to := range []int{3, 4, 10} {
		from := int(cp.Size())
		taken, err := cp.Batch(c.Batch(from, to))
		if err != nil {
			t.Fatal(err)
		}
		if taken.From != uint64(from) || len(taken.Entries) != to-from || taken.Checkpoint.Size != uint64(to) || cp.Size() != uint64(to) {
			t.Errorf("batch to %d: %+v", to, taken)
		}
		for i, e := range taken.Entries {
			if !bytes.Equal(e.Raw, c.Entries[from+i].Raw) || !bytes.Equal(e.Payload, c.Entries[from+i].Payload) {
				t.Errorf("entry %d changed on its way", from+i)
			}
		}
	}
	// After a restart it goes on from what was stored.
	edge := journal.Frontier{}
	for _, e := range c.Entries {
		edge.Append(journal.LeafHash(e.Raw))
	}
	again, err := downlink.NewCopy(downlink.State{Key: c.Key.Public(), Edge: edge, Recorded: 100, Note: c.Note(10, 0)})
	if err != nil {
		t.Fatal(err)
	}
	c.Add(100, "eleventh")
	if _, err := again.Batch(c.Batch(10, 11)); err != nil {
		t.Error(err)
	}
}

// Every way in which a journal may contradict what was accepted, or what it came with.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		batch  func(c *federationtest.Chain) *dubanv1.SyncBatch // after 5 of 10 were accepted
		want   string
		proven bool
	}{
		{"payload changed", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b := c.Batch(5, 10)
			b.Entries[2].Payload = []byte("another")
			return b
		}, "entry 7: journal", true},
		{"payload left out", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b := c.Batch(5, 10)
			b.Entries[2].Payload, b.Entries[2].Salt = nil, nil
			return b
		}, "entry 7: journal", true},
		{"entry changed", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b, f := c.Batch(5, 10), c.Fork(7)
			f.Add(80, "another")
			b.Entries[2] = federation.ToWire(f.Entries[7:8])[0]
			return b
		}, "another root", true},
		{"entries swapped", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b := c.Batch(5, 10)
			b.Entries[2], b.Entries[3] = b.Entries[3], b.Entries[2]
			return b
		}, "entry 8 stands where 7 is expected", true},
		{"fork before", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			f := c.Fork(3)
			for i := range 7 {
				f.Add(int64(40+10*i), "fork")
			}
			return f.Batch(5, 10)
		}, "another root", true},
		{"of another journal", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b := c.Batch(5, 10)
			header := c.Entries[5].Header
			header.Journal = journal.ID{9}
			b.Entries[0].Header = header.Append(nil)
			return b
		}, "is of journal 09", true},
		{"recorded before the one before", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			f := c.Fork(6)
			f.Add(55, "backdated")
			return f.Batch(5, 7)
		}, "entry 6 was recorded before the entry before it", true},
		{"header cut", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b := c.Batch(5, 10)
			b.Entries[0].Header = b.Entries[0].Header[:50]
			return b
		}, "malformed", true},
		{"checkpoint earlier than its entries", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b := c.Batch(5, 10)
			b.Checkpoint = c.Note(10, 99)
			return b
		}, "states an earlier time", true},
		{"signed by nobody", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b := c.Batch(5, 10)
			b.Checkpoint = bytes.Replace(b.Checkpoint, []byte("\n10\n"), []byte("\n11\n"), 1)
			return b
		}, "invalid signature", false},
		{"signed by another", func(c *federationtest.Chain) *dubanv1.SyncBatch {
			b := c.Batch(5, 10)
			b.Checkpoint = chain(t, 10).Note(10, 0)
			return b
		}, "no verifiable signatures", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			honest := chain(t, 10)
			cp := accepted(t, honest, 5)
			taken, err := cp.Batch(c.batch(honest))
			var r *downlink.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("%+v, %v", taken, err)
			}
			if !strings.Contains(r.Reason, c.want) || r.Proven != c.proven || r.From != 5 || (cp.Refused() == r.Reason) != c.proven || cp.Size() != 5 {
				t.Errorf("%+v, want %q, proven %v", r, c.want, c.proven)
			}
			if !bytes.Equal(r.Accepted, honest.Note(5, 0)) || len(r.Refused) == 0 {
				t.Errorf("evidence: accepted %q, refused %q", r.Accepted, r.Refused)
			}
		})
	}
}

// A checkpoint promised that nothing earlier comes; an entry that does is a forgery, though every hash fits.
func TestEntryBeforeAStatedTime(t *testing.T) {
	c := chain(t, 5)
	cp := accepted(t, c, 5)
	if _, _, err := cp.Heartbeat(c.Note(5, 1000)); err != nil {
		t.Fatal(err)
	}
	c.Add(999, "backdated")
	_, err := cp.Batch(c.Batch(5, 6))
	var r *downlink.Refusal
	if !errors.As(err, &r) || !r.Proven || !strings.Contains(r.Reason, "before the time that the checkpoint of size 5 states") {
		t.Errorf("%v", err)
	}
}

func TestOutOfStep(t *testing.T) {
	c := chain(t, 10)
	cp := accepted(t, c, 5)
	for name, b := range map[string]*dubanv1.SyncBatch{
		"gap": c.Batch(6, 10), "nothing": c.Batch(5, 5),
		"other size": {Journal: c.Batch(5, 6).Journal, From: 5, Entries: c.Batch(5, 7).Entries, Checkpoint: c.Note(6, 0)},
	} {
		if _, err := cp.Batch(b); err == nil || !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := cp.Heartbeat(c.Note(6, 0)); !fault.Is(err, fault.Conflict) {
		t.Errorf("heartbeat ahead: %v", err)
	}
	if _, err := cp.Batch(c.Batch(5, 10)); err != nil || cp.Refused() != "" {
		t.Errorf("being out of step is no fault of the journal: %v", err)
	}
}

// What came before, by another stream perhaps, is taken once; what is new of a batch is taken, whatever stands in its old part.
func TestOverlaps(t *testing.T) {
	c := chain(t, 10)
	cp := accepted(t, c, 5)
	if taken, err := cp.Batch(c.Batch(3, 8)); err != nil || taken.From != 5 || len(taken.Entries) != 3 || cp.Size() != 8 {
		t.Fatalf("%+v, %v", taken, err)
	}
	again, err := cp.Batch(c.Batch(2, 8))
	if err != nil || len(again.Entries) != 0 || !again.Stale {
		t.Errorf("%+v, %v", again, err)
	}
	fork := c.Fork(7)
	fork.Add(80, "fork")
	var r *downlink.Refusal
	if _, err := cp.Batch(fork.Batch(6, 8)); !errors.As(err, &r) || !r.Proven || !strings.Contains(r.Reason, "forked") {
		t.Errorf("a fork of what came before: %v", err)
	}
}

// What the journal's key signed speaks against its writer whoever presents it; what it did not sign, only against the writer
// if it is the writer who presents it.
func TestForwarded(t *testing.T) {
	for name, proven := range map[string]bool{"changed": false, "left out": false, "forked": false, "backdated": true} {
		t.Run(name, func(t *testing.T) {
			c := chain(t, 10)
			cp := accepted(t, c, 5)
			b := c.Batch(5, 8)
			switch name {
			case "changed":
				b.Entries[1].Payload = []byte("another")
			case "left out":
				b.Entries[1] = b.Entries[2]
			case "forked":
				f := c.Fork(3)
				for i := range 5 {
					f.Add(int64(40+10*i), "fork")
				}
				b = f.Batch(5, 8)
			case "backdated":
				f := c.Fork(6)
				f.Add(55, "backdated")
				b = f.Batch(5, 7)
			}
			_, err := cp.Forwarded(b)
			var r *downlink.Refusal
			if !errors.As(err, &r) || r.Proven != proven || (cp.Refused() != "") != proven {
				t.Fatalf("%v, %+v", err, r)
			}
			if _, err := cp.Batch(c.Batch(5, 10)); !proven && err != nil {
				t.Errorf("the writer itself is not believed any more: %v", err)
			}
		})
	}
}

func TestHeartbeats(t *testing.T) {
	c := chain(t, 5)
	cp := accepted(t, c, 5)
	taken, older, err := cp.Heartbeat(c.Note(5, 70))
	if err != nil || older || taken.Stale || taken.Checkpoint.Time != 70 || len(taken.Changes()) != 1 {
		t.Fatalf("%+v, %v, %v", taken, older, err)
	}
	if taken, older, err = cp.Heartbeat(c.Note(5, 60)); err != nil || older || !taken.Stale || taken.Changes() != nil {
		t.Fatalf("an earlier one of the same size is only late: %+v, %v, %v", taken, older, err)
	}
	late := func(note []byte) error {
		t.Helper()
		taken, older, err := cp.Heartbeat(note)
		if err != nil || !older {
			t.Fatalf("%+v, %v, %v", taken, older, err)
		}
		honest, err := journal.ParseCheckpoint(c.Note(3, 0))
		if err != nil {
			t.Fatal(err)
		}
		return cp.Older(taken, honest.Root, c.Entries[3].RecordedAt)
	}
	if err := late(c.Note(3, 35)); err != nil {
		t.Errorf("one that was on its way for long: %v", err)
	}
	var r *downlink.Refusal
	if err := late(c.Note(3, 41)); !errors.As(err, &r) || !r.Proven || !strings.Contains(r.Reason, "rolled back") {
		t.Errorf("one signed after what it leaves out: %v", err)
	}
	fork := c.Fork(2)
	fork.Add(30, "fork")
	cp = accepted(t, c, 5)
	if err := late(fork.Note(3, 35)); !errors.As(err, &r) || !r.Proven || !strings.Contains(r.Reason, "forked") {
		t.Errorf("a smaller fork: %v", err)
	}
	fork.Add(40, "fork")
	fork.Add(50, "fork")
	cp = accepted(t, c, 5)
	if _, _, err := cp.Heartbeat(fork.Note(5, 90)); !errors.As(err, &r) || !r.Proven || !strings.Contains(r.Reason, "forked") {
		t.Errorf("a fork of the same size: %v", err)
	}
	cp = accepted(t, c, 5)
	if _, _, err := cp.Heartbeat([]byte("x")); !errors.As(err, &r) || r.Proven {
		t.Errorf("no checkpoint: %v", err)
	}
}

// Rows of checkpoints stay about one in KeepEvery bytes, the last one always.
func TestThinning(t *testing.T) {
	c := federationtest.NewChain(key(t))
	cp := accepted(t, c, 0)
	rows := map[int64]bool{}
	total := 0
	for i := range 400 {
		payload := strings.Repeat("x", 5000+i)
		total += len(payload)
		c.Add(int64(i), payload)
		taken, err := cp.Batch(c.Batch(i, i+1))
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range taken.Changes() {
			if change.Table != federation.Checkpoint {
				continue
			}
			if change.Delete {
				if !rows[change.Row[0].(int64)] {
					t.Fatalf("row %d is dropped and not there", change.Row[0])
				}
				delete(rows, change.Row[0].(int64))
			} else {
				rows[change.Row[0].(int64)] = true
			}
		}
		if !rows[int64(i+1)] {
			t.Fatalf("no row for size %d", i+1)
		}
	}
	least := total / federation.KeepEvery
	if len(rows) < least || len(rows) > 2*least+2 {
		t.Errorf("%d rows for %d bytes", len(rows), total)
	}
	for size, gap := int64(1), 0; size <= 400; size++ {
		if gap += len(c.Entries[size-1].Payload); rows[size] {
			gap = 0
		}
		if gap > federation.KeepEvery {
			t.Fatalf("no row in %d bytes before size %d", gap, size)
		}
	}
}

// Whatever bytes come, a copy takes only what the journal signed, in order.
func FuzzBatch(f *testing.F) {
	c := chain(f, 4)
	add := func(b *dubanv1.SyncBatch) {
		raw, err := proto.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	add(c.Batch(2, 4))
	add(c.Batch(0, 4))
	add(&dubanv1.SyncBatch{From: 2, Entries: []*dubanv1.WireEntry{nil, {}}, Checkpoint: c.Note(4, 0)})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b dubanv1.SyncBatch
		if proto.Unmarshal(raw, &b) != nil {
			return
		}
		taken, err := accepted(t, c, 2).Batch(&b)
		if err != nil {
			return
		}
		for i, e := range taken.Entries {
			if !bytes.Equal(e.Raw, c.Entries[2+i].Raw) {
				t.Errorf("entry %d is not the one that was signed", 2+i)
			}
		}
	})
}
