package letters

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/tlog"

	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/store"
)

// Store is what letters need of a store. They read by Get, Scan, Read and Hashes alone.
type Store interface {
	Own() journal.ID
	Append(ctx context.Context, commands ...store.Command) ([]store.Result, []error)
	Stamp(ctx context.Context) (size uint64, at int64, err error)
	Read(ctx context.Context, id journal.ID, from uint64, max int) ([]journal.Entry, error)
	Hashes(id journal.ID) (tlog.HashReader, error)
	Journal(id journal.ID) (store.Info, bool)
	Cursor(ctx context.Context, follower string, id journal.ID) (uint64, error)
	Get(ctx context.Context, id journal.ID, t *store.Table, key ...any) (store.Row, bool, error)
	Scan(ctx context.Context, id journal.ID, t *store.Table, from []any, most int) ([]store.Row, error)
}

// Config is what an Addresser, a Post and a Box are made of.
type Config struct {
	Code  jurisdiction.Code // whose node this is
	Tree  *topology.Tree
	Store Store

	// Key of the own journal signs marks. A Post needs it.
	Key *journal.Key
	// Case says in which journal the case of an alert lies, for alerts that were disputed before this node opened a level of
	// them; false where no journal held has opened that alert. Without it such a dispute is addressed to nobody.
	Case func(ctx context.Context, alert string) (journal.ID, bool, error)

	Log     *slog.Logger          // nil for none
	Metrics prometheus.Registerer // nil for none
}

// prepared checks the configuration and fills in what may be left out.
func (c Config) prepared() (Config, error) {
	var bad fault.List
	if c.Store == nil {
		bad.Add("Store", "is missing")
	}
	if c.Tree == nil {
		bad.Add("Tree", "is missing")
	} else if _, ok := c.Tree.Node(c.Code); !ok {
		bad.Add("Code", "%.20q: want a code of the tree", string(c.Code))
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, bad.Err(fault.Invalid, "letters")
}

// below says whether a jurisdiction lies below another, not being it.
func (c *Config) below(code, above jurisdiction.Code) bool {
	return code != above && c.Tree.Within(code, above)
}

// path lists the nodes from code up to this node, without this one.
func (c *Config) path(code jurisdiction.Code) (out []jurisdiction.Code) {
	for n, ok := c.Tree.Node(code); ok && n.Code != c.Code; n, ok = c.Tree.Node(n.Parent) {
		out = append(out, n.Code)
	}
	return out
}

// above lists the nodes above this one, the parent first.
func (c *Config) above() (out []topology.Node) {
	self, _ := c.Tree.Node(c.Code)
	for n, ok := c.Tree.Node(self.Parent); ok; n, ok = c.Tree.Node(n.Parent) {
		out = append(out, n)
	}
	return out
}
