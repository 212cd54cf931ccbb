// Package fleet puts up a whole tree of nodes on loopback, in this process or each as a process of its own, with real
// keys, certificates, sockets and data folders. The demo and the kill tests stand on it.
//
// It promises that a node that Start or Restart returned answers, that Kill gives a process no chance to tidy up, and
// that Close leaves nothing running. It is not a way to run nodes in production: it holds every key of the tree.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"duban.internal/cmd/duban/app"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/rpc"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Spec says which tree to put up.
type Spec struct {
	Dir     string // for keys, data and logs; must be empty
	City    jurisdiction.Code
	Members []topology.Member
	Clients []identity.Identity
	Clock   clock.Scaled

	// Lines are the members whose ways up can be cut: they dial every ancestor through this process.
	Lines []jurisdiction.Code
	// Configure has the last word on a node's configuration.
	Configure func(*app.Config)
	// Binary is the program that runs a node as a process; empty for nodes in this process.
	Binary string
}

// Fleet is a running tree.
type Fleet struct {
	spec  Spec
	lines map[jurisdiction.Code][]*line
	tree  *topology.Tree
	nodes map[jurisdiction.Code]*node
	order []jurisdiction.Code // parents first
}

// node is one member: its configuration, and the running thing while there is one.
type node struct {
	config app.Config
	stop   func(kill bool) error // nil while it is down
}

const (
	readyWithin = 60 * time.Second
	readyPause  = 20 * time.Millisecond
)

// Start makes the keys and brings the nodes up, parents first.
func Start(ctx context.Context, spec Spec) (*Fleet, error) {
	if err := addresses(spec.Members); err != nil {
		return nil, err
	}
	keys := filepath.Join(spec.Dir, "keys")
	tree, err := topology.Generate(keys, topology.Spec{
		City: spec.City, Members: spec.Members, Clients: spec.Clients, Now: clock.System().Now(),
	})
	if err != nil {
		return nil, err
	}
	f := &Fleet{spec: spec, tree: tree, nodes: map[jurisdiction.Code]*node{}, lines: map[jurisdiction.Code][]*line{}}
	for _, m := range tree.All() {
		parent, _ := tree.Node(m.Parent)
		config := app.Config{
			Code:     string(m.Code),
			Data:     f.DataDir(m.Code),
			Listen:   m.Address,
			Parent:   parent.Address,
			Identity: topology.NodeFolder(keys, m.Code),
			Topology: filepath.Join(keys, "topology.yaml"),
			Clock:    app.Clock{Rate: spec.Clock.Rate, Epoch: spec.Clock.Epoch, Base: spec.Clock.Base},
		}
		if slices.Contains(spec.Lines, m.Code) {
			if err := f.layLines(m, &config); err != nil {
				return nil, errors.Join(err, f.Close())
			}
		}
		if spec.Configure != nil {
			spec.Configure(&config)
		}
		f.nodes[m.Code] = &node{config: config.WithDefaults()}
		f.order = append(f.order, m.Code)
	}
	if err := f.startAll(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// layLines lets a node dial its ancestors by lines of this process.
func (f *Fleet) layLines(m topology.Node, c *app.Config) error {
	for up, ok := f.tree.Node(m.Parent); ok; up, ok = f.tree.Node(up.Parent) {
		l, err := lay(up.Address)
		if err != nil {
			return err
		}
		f.lines[m.Code] = append(f.lines[m.Code], l)
		if up.Code == m.Parent {
			c.Parent = l.address()
			continue
		}
		c.Ancestors = append(c.Ancestors, string(up.Code)+"="+l.address())
	}
	return nil
}

// Cut cuts all ways up of a node that has lines.
func (f *Fleet) Cut(code jurisdiction.Code) error { return f.setLines(code, true) }

// Mend mends them.
func (f *Fleet) Mend(code jurisdiction.Code) error { return f.setLines(code, false) }

func (f *Fleet) setLines(code jurisdiction.Code, cut bool) error {
	if len(f.lines[code]) == 0 {
		return fmt.Errorf("node %s has no lines to cut", code)
	}
	for _, l := range f.lines[code] {
		l.set(cut)
	}
	return nil
}

// startAll brings the tiers up one after the other, the nodes of a tier at once.
func (f *Fleet) startAll(ctx context.Context) error {
	for rest := f.order; len(rest) > 0; {
		tier := f.tier(rest[0])
		var g errgroup.Group
		for len(rest) > 0 && f.tier(rest[0]) == tier {
			code := rest[0]
			rest = rest[1:]
			g.Go(func() error { return f.Restart(ctx, code) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) tier(code jurisdiction.Code) jurisdiction.Tier {
	n, _ := f.tree.Node(code)
	return n.Tier
}

// Ports of a fleet lie below those that systems give to outgoing connections: a node that is restarted finds its own free.
const (
	leastPort = 10_000
	mostPort  = 30_000
	portTries = 100
)

// addresses chooses a free loopback port for each member that has no address.
func addresses(members []topology.Member) error {
	for i := range members {
		if members[i].Address != "" {
			continue
		}
		l, err := freePort()
		if err != nil {
			return err
		}
		defer l.Close() // only after all are chosen: no two alike
		members[i].Address = l.Addr().String()
	}
	return nil
}

func freePort() (l net.Listener, err error) {
	for range portTries {
		port := leastPort + rand.IntN(mostPort-leastPort)
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no free port from %d to %d: %w", leastPort, mostPort, err)
}

// Tree is the tree as every node knows it.
func (f *Fleet) Tree() *topology.Tree { return f.tree }

// Codes lists the nodes, parents first.
func (f *Fleet) Codes() []jurisdiction.Code { return f.order }

// KeyDir is the folder that duban keygen would have written.
func (f *Fleet) KeyDir() string { return filepath.Join(f.spec.Dir, "keys") }

// DataDir is where a node keeps its data.
func (f *Fleet) DataDir(code jurisdiction.Code) string {
	return filepath.Join(f.spec.Dir, "data", string(code))
}

// LogFile is what a node logs.
func (f *Fleet) LogFile(code jurisdiction.Code) string {
	return filepath.Join(f.spec.Dir, "log", string(code)+".log")
}

// Config is a node's configuration.
func (f *Fleet) Config(code jurisdiction.Code) app.Config { return f.nodes[code].config }

// Reconfigure changes a node's configuration from its next start on.
func (f *Fleet) Reconfigure(code jurisdiction.Code, change func(*app.Config)) {
	change(&f.nodes[code].config)
}

// Restart brings a node up that is down, and waits until it answers.
func (f *Fleet) Restart(ctx context.Context, code jurisdiction.Code) error {
	n, ok := f.nodes[code]
	if !ok {
		return fmt.Errorf("no node %s in this tree", code)
	}
	if n.stop != nil {
		return fmt.Errorf("node %s runs already", code)
	}
	var err error
	if f.spec.Binary == "" {
		n.stop, err = startHere(ctx, n.config, f.LogFile(code))
	} else {
		n.stop, err = startProcess(f.spec.Binary, n.config, f.LogFile(code))
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", code, err)
	}
	if err := f.ready(ctx, code); err != nil {
		return fmt.Errorf("start %s: %w", code, err)
	}
	return nil
}

// Stop ends a node in good order.
func (f *Fleet) Stop(code jurisdiction.Code) error { return f.end(code, false) }

// Kill ends a process with SIGKILL. A node in this process can't be killed; it is an error to ask.
func (f *Fleet) Kill(code jurisdiction.Code) error {
	if f.spec.Binary == "" {
		return fmt.Errorf("kill %s: nodes in one process can only be stopped", code)
	}
	return f.end(code, true)
}

func (f *Fleet) end(code jurisdiction.Code, kill bool) error {
	n := f.nodes[code]
	if n == nil || n.stop == nil {
		return nil
	}
	stop := n.stop
	n.stop = nil
	return stop(kill)
}

// Close stops every node, children first, and takes the lines away.
func (f *Fleet) Close() error {
	var errs []error
	defer func() {
		for _, lines := range f.lines {
			for _, l := range lines {
				l.close()
			}
		}
		clear(f.lines)
	}()
	for i := len(f.order) - 1; i >= 0; i-- {
		errs = append(errs, f.Stop(f.order[i]))
	}
	return errors.Join(errs...)
}

// Dial connects to a node as one of the tree's clients.
func (f *Fleet) Dial(code jurisdiction.Code, as identity.Identity) (*grpc.ClientConn, error) {
	n, ok := f.tree.Node(code)
	if !ok {
		return nil, fmt.Errorf("no node %s in this tree", code)
	}
	files := topology.ClientFiles(topology.ClientFolder(f.KeyDir(), as))
	pair, err := files.Load()
	if err != nil {
		return nil, err
	}
	return rpc.Dial(n.Address, pair.Client(identity.Identity{City: f.spec.City, Kind: identity.Node, Code: code}))
}

// Operator is the identity that runs a node.
func (f *Fleet) Operator(code jurisdiction.Code) identity.Identity {
	return identity.Identity{City: f.spec.City, Kind: identity.Operator, Code: code}
}

// ready waits until the node tells how it stands.
func (f *Fleet) ready(ctx context.Context, code jurisdiction.Code) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	conn, err := f.Dial(code, f.Operator(code))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := dubanv1.NewNodeServiceClient(conn)
	for {
		_, err := client.GetStatus(ctx, &dubanv1.GetStatusRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return nil
		}
		if clock.Pause(ctx, f.spec.Clock, readyPause) != nil {
			return fmt.Errorf("did not answer within %s: %w%s", readyWithin, err, tail(f.LogFile(code)))
		}
	}
}

// tail is the end of a log, for messages.
func tail(name string) string {
	content, err := os.ReadFile(name)
	if err != nil || len(content) == 0 {
		return ""
	}
	return "; its log ends:\n" + string(content[max(0, len(content)-2000):])
}
