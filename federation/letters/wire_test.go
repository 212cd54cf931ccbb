package letters_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"duban.internal/federation"
	"duban.internal/federation/federationtest"
	"duban.internal/federation/letters"
	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
	"duban.internal/node/store/embedded"
	dubanv1 "duban.internal/proto/duban/v1"
)

// wired is a node on its engine, over real sockets and TLS.
type wired struct {
	*federationtest.Node
	*node
	files *embedded.Store
	stop  context.CancelFunc
}

type net struct {
	*testing.T
	tree  *federationtest.Tree
	world *world
}

func newNet(t *testing.T) *net {
	ft := federationtest.NewTree(t, clock.System().Now())
	return &net{T: t, tree: ft, world: &world{keyed: &keyed{Tree: ft.Tree, Keys: ft.Keys}, clock: clock.NewManual(start), nodes: map[jurisdiction.Code]*node{}}}
}

// open puts a node on a new disk.
func (n *net) open(code jurisdiction.Code) *wired {
	folds := []store.Fold{federation.Fold(), letters.Fold()}
	s, err := embedded.Open(n.Context(), embedded.Config{Dir: n.TempDir(), Journal: n.tree.ID(code), Clock: clock.System(),
		Folds: []*store.Fold{&folds[0], &folds[1]}, Tables: append(letters.Tables(), federation.Tables()...), Known: federation.Kinds()})
	require.NoError(n, err)
	n.Cleanup(func() {
		if err := s.Close(); err != nil {
			n.Error(err)
		}
	})
	n.world.nodes[code] = &node{w: n.world, code: code}
	n.world.nodes[code].use(s)
	return &wired{node: n.world.nodes[code], files: s}
}

// run starts or restarts a node's ends and its Addresser.
func (n *net) run(w *wired, o federationtest.Options) {
	w.halt()
	if o.Below == nil {
		o.Below = w.post
	}
	o.Above = w.box
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	runner, err := letters.NewRunner(letters.Config{Code: w.code, Tree: n.tree.Tree}, w.files, clock.System())
	require.NoError(n, err)
	go func() {
		defer close(done)
		if err := runner.Run(ctx); err != nil {
			n.Error(err)
		}
	}()
	w.Node = n.tree.Start(n, w.code, w.files, o)
	under := w.Node
	w.stop = func() { cancel(); <-done; under.Stop() }
	n.Cleanup(w.stop)
}

func (w *wired) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// Letters come down over real streams, through a district that is stopped and started, and past it while it is gone.
func TestOverTheWire(t *testing.T) {
	n := newNet(t)
	c, d, s := n.open(city), n.open(district), n.open(street)
	n.run(c, federationtest.Options{})
	n.run(d, federationtest.Options{Parent: c.Address})
	past := federationtest.Options{Parent: d.Address, Ancestors: map[jurisdiction.Code]string{city: c.Address}, Around: 300 * time.Millisecond, Silence: 300 * time.Millisecond}
	n.run(s, past)
	alerts := 0
	open := func(times int) {
		for range times {
			alerts++
			c.opens(t, fmt.Sprint(alerts), 3, street)
		}
	}
	arrived := func(what string) {
		federationtest.Until(t, what, func() bool { return len(s.got(t, city)) == alerts })
	}
	open(5)
	arrived("five letters through the district")
	d.halt()
	open(5)
	arrived("five letters past the district")
	n.run(d, federationtest.Options{Parent: c.Address})
	federationtest.Until(t, "the district has what was told about its street", func() bool { return len(d.got(t, city)) == alerts })
	s.halt()
	open(5)
	past.Parent = d.Address
	n.run(s, past)
	open(5)
	arrived("all of them")
	federationtest.Until(t, "the district has them too", func() bool { return len(d.got(t, city)) == alerts })
	for _, x := range []*wired{c, d, s} {
		require.Empty(t, x.evidence(t))
	}
}

// patched is what a district sends that changes what it was given.
type patched struct {
	federation.Below
	change func(*dubanv1.SyncLetter) *dubanv1.SyncLetter // nil holds it back
}

func (p *patched) Next(ctx context.Context, child jurisdiction.Code, at []*dubanv1.LetterPosition, most int) ([]*dubanv1.SyncLetter, error) {
	all, err := p.Below.Next(ctx, child, at, most)
	var out []*dubanv1.SyncLetter
	for _, m := range all {
		if m = p.change(proto.Clone(m).(*dubanv1.SyncLetter)); m != nil {
			out = append(out, m)
		}
	}
	return out, err
}

// A patched district with a good certificate changes, invents or holds back what the city says to a street: the street
// refuses, keeps the evidence, shows it, goes on sending its own journal up, and has the truth once the district gives it.
func TestPatchedDistrict(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		change func(m *dubanv1.SyncLetter, first bool) *dubanv1.SyncLetter
	}{
		"changes": {"does not match the digest", func(m *dubanv1.SyncLetter, _ bool) *dubanv1.SyncLetter {
			m.Letter.Entries[0].Payload = []byte("handled")
			return m
		}},
		"holds back": {"held back", func(m *dubanv1.SyncLetter, first bool) *dubanv1.SyncLetter {
			if first {
				return nil
			}
			return m
		}},
		"readdresses": {"addresses", func(m *dubanv1.SyncLetter, _ bool) *dubanv1.SyncLetter { return m }},
		"speaks for the city": {"is no journal above", func(m *dubanv1.SyncLetter, _ bool) *dubanv1.SyncLetter {
			m.Letter.Journal = make([]byte, 16)
			return m
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNet(t)
			up, d, s := n.open(city), n.open(district), n.open(street)
			n.run(up, federationtest.Options{})
			n.run(d, federationtest.Options{Parent: up.Address})
			for i := range 3 {
				up.opens(t, fmt.Sprint(i), 3, street)
				up.opens(t, fmt.Sprint("other", i), 3, second)
				federationtest.Until(t, "the district has it", func() bool { return len(d.got(t, city)) == 2*(i+1) })
			}
			var first []byte
			bad := &patched{Below: d.post, change: func(m *dubanv1.SyncLetter) *dubanv1.SyncLetter {
				if m.GetLetter().GetAddressed() == nil {
					return m
				}
				if first == nil {
					first = m.GetLetter().GetAddressed().GetHeader()
				}
				return c.change(m, bytes.Equal(first, m.GetLetter().GetAddressed().GetHeader()))
			}}
			if name == "readdresses" {
				bad.Below = otherwise{d.post, second}
			}
			n.run(d, federationtest.Options{Parent: up.Address, Below: bad})
			n.run(s, federationtest.Options{Parent: d.Address})
			federationtest.Until(t, "it is refused", func() bool { return len(s.evidence(t)) > 0 })
			require.Contains(t, s.evidence(t)[0].GetReason(), c.reason)
			require.Empty(t, s.got(t, city))
			st, err := s.box.Status(t.Context())
			require.NoError(t, err)
			require.Contains(t, st[0].Refused+st[1].Refused, c.reason)
			s.write(t, &dubanv1.ExplanationGiven{})
			federationtest.Until(t, "its own journal goes up", func() bool {
				info, _ := s.store.Journal(s.store.Own())
				return s.Uplink.Status().Acknowledged[s.store.Own()] == info.Size
			})
			n.run(d, federationtest.Options{Parent: up.Address})
			n.run(s, federationtest.Options{Parent: d.Address})
			came := func() bool { return len(s.got(t, city)) == 3 }
			defer func() {
				if t.Failed() {
					at, err := s.box.Positions(context.Background())
					out, failed := d.post.Next(context.Background(), street, at, plenty)
					t.Log(at, err, len(out), failed, d.Downlink.Status(), s.Uplink.Status())
					for _, m := range out {
						ack, err := s.box.Take(context.Background(), m)
						t.Log(ack, err)
					}
				}
			}()
			federationtest.Until(t, "the truth comes", came)
		})
	}
}

// otherwise gives one child the letters of another.
type otherwise struct {
	federation.Below
	of jurisdiction.Code
}

func (o otherwise) Next(ctx context.Context, child jurisdiction.Code, at []*dubanv1.LetterPosition, most int) ([]*dubanv1.SyncLetter, error) {
	out, err := o.Below.Next(ctx, o.of, at, most)
	for _, m := range out {
		m.Letter.Addressee = string(child)
	}
	return out, err
}
