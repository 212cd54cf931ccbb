package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/federationtest"
	"duban.internal/federation/fetch"
	"duban.internal/node/attachment"
	"duban.internal/node/caseview"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	dubanv1 "duban.internal/proto/duban/v1"
)

// late is a Fetcher that comes to be after what needs it.
type late struct {
	atomic.Pointer[federationtest.Node]
}

func (l *late) Fetch(ctx context.Context, child jurisdiction.Code, id journal.ID, sum [32]byte, offset uint64, sink func(*dubanv1.SyncChunk) error) error {
	return l.Load().Downlink.Fetch(ctx, child, id, sum, offset, sink)
}

// A street's evidence comes to the city over two real streams, of which one breaks on the way: what came is not sent again.
func TestOverTheWire(t *testing.T) {
	tree := federationtest.NewTree(t, clock.System().Now())
	type wired struct {
		*federationtest.Node
		store   *embedded.Store
		dir     string
		files   *attachment.Files
		server  *fetch.Server
		fetcher *fetch.Fetcher
		below   late
	}
	open := func(code jurisdiction.Code) *wired {
		folds := []store.Fold{federation.Fold(), caseview.Fold()}
		s, err := embedded.Open(t.Context(), embedded.Config{Dir: t.TempDir(), Journal: tree.ID(code), Clock: clock.System(),
			Folds: []*store.Fold{&folds[0], &folds[1]}, Tables: append(fetch.Tables(), federation.Tables()...), Known: federation.Kinds()})
		require.NoError(t, err)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		n := &wired{store: s}
		n.dir = t.TempDir()
		n.files, err = attachment.Open(attachment.Config{Dir: n.dir})
		require.NoError(t, err)
		cfg := fetch.Config{Code: code, Tree: tree.Tree, Files: n.files, Named: fetch.Names(s), Clock: clock.System(), Below: &n.below}
		n.server, err = fetch.NewServer(cfg)
		require.NoError(t, err)
		n.fetcher, err = fetch.NewFetcher(cfg)
		require.NoError(t, err)
		return n
	}
	run := func(n *wired, code jurisdiction.Code, o federationtest.Options) {
		o.Files = n.server
		n.Node = tree.Start(t, code, n.store, o)
		n.below.Store(n.Node)
	}
	c, d, s := open(city), open(district), open(street)
	run(c, city, federationtest.Options{})
	run(d, district, federationtest.Options{Parent: c.Address})
	run(s, street, federationtest.Options{Parent: d.Address})
	evidence := content(9<<20+123, 42)
	sum := sha256.Sum256(evidence)
	_, err := s.files.Put(t.Context(), sum[:], uint64(len(evidence)), bytes.NewReader(evidence))
	require.NoError(t, err)
	for _, m := range []proto.Message{&dubanv1.CaseOpened{CaseId: "c", Agency: "market"}, &dubanv1.EvidenceAttached{CaseId: "c", Sha256: sum[:], Size: uint64(len(evidence))}} {
		kind := dubanv1.EntryKind_ENTRY_KIND_CASE_OPENED
		if _, ok := m.(*dubanv1.EvidenceAttached); ok {
			kind = dubanv1.EntryKind_ENTRY_KIND_EVIDENCE_ATTACHED
		}
		payload, err := proto.Marshal(m)
		require.NoError(t, err)
		p := store.Proposal{Stream: "case/c", Kind: uint32(kind), Actor: "agency:market", Payload: payload}
		p.Seal()
		_, errs := s.store.Append(t.Context(), store.Command{Entries: []store.Proposal{p}})
		require.NoError(t, errs[0])
	}
	id := tree.ID(street)
	federationtest.Until(t, "the city knows of the evidence", func() bool {
		named, err := fetch.Names(c.store)(t.Context(), id, sum[:])
		return err == nil && named
	})

	// The district goes away as soon as something came, and comes back.
	done := make(chan error, 1)
	go func() { done <- c.fetcher.Fetch(t.Context(), id, sum[:]) }()
	federationtest.Until(t, "something came", func() bool {
		coming, err := os.ReadDir(filepath.Join(c.dir, "partial"))
		_, all := c.files.Has(sum[:])
		return err == nil && len(coming) > 0 || all
	})
	address := d.Address
	d.Stop()
	if err := <-done; err != nil {
		require.Equal(t, fault.Unavailable, fault.Of(err))
	}
	run(d, district, federationtest.Options{Parent: c.Address, Listen: address})
	federationtest.Until(t, "the rest comes", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return c.fetcher.Fetch(ctx, id, sum[:]) == nil
	})
	r, err := c.files.Get(sum[:], 0)
	require.NoError(t, err)
	got := make([]byte, len(evidence)+1)
	n := 0
	for {
		k, err := r.Read(got[n:])
		if n += k; err != nil || k == 0 {
			break
		}
	}
	require.NoError(t, r.Close())
	require.True(t, bytes.Equal(evidence, got[:n]))
	_, kept := d.files.Has(sum[:])
	require.False(t, kept)

	// What no entry names is not given, whoever asks.
	secret := sha256.Sum256([]byte("secret"))
	_, err = s.files.Put(t.Context(), secret[:], 6, bytes.NewReader([]byte("secret")))
	require.NoError(t, err)
	err = d.below.Fetch(t.Context(), street, id, secret, 0, func(*dubanv1.SyncChunk) error { return nil })
	require.Equal(t, fault.NotFound, fault.Of(err))
	require.ErrorContains(t, err, "no entry of journal")
}
