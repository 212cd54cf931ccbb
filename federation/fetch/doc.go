// Package fetch brings attachments up from the nodes that have them (附件调取): on demand, through the levels, and by itself
// where an alert has escalated.
//
// What it promises: a node gives only bytes that an entry of the journal asked about names, and only of journals of its own
// and below; what was brought is durable and is what its address says; a transfer that breaks goes on where it ended, also
// after a restart; nodes in between pass bytes on and keep none; memory and the number of transfers at once are bounded.
// The evidence of every case whose alert this node has received (level 2 or above) is wanted, in a row beside the folds,
// until it is here. What it doesn't do: it asks nobody whether a person may open an attachment (node/service does), and it
// copies no evidence that is attached after the level opened, until the next level opens or somebody asks for it.
//
// A request goes down the streams that children keep open (federation/downlink, federation/uplink); nothing dials a child.
//
//	city: Fetcher.Fetch --> downlink.Fetch ~~~> district: Server.Serve --> downlink.Fetch ~~~> street: Server.Serve
//	      partial file  <-- chunks         <~~~           passed on    <-- chunks         <~~~         its own file
package fetch

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"duban.internal/federation"
	"duban.internal/federation/topology"
	"duban.internal/node/attachment"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
)

// Config is what a Server and a Fetcher are made of.
type Config struct {
	Code  jurisdiction.Code // whose node this is
	Tree  *topology.Tree
	Files *attachment.Files
	// Below asks children; nil where there are none.
	Below federation.Fetcher
	// Named says whether an entry of a journal names an attachment; see Names.
	Named func(ctx context.Context, id journal.ID, sha256 []byte) (bool, error)
	Clock clock.Clock
	Log   *slog.Logger          // nil for none
	Meter prometheus.Registerer // nil for none
}

func (c Config) prepared() (Config, error) {
	var bad fault.List
	for _, f := range []struct {
		name    string
		missing bool
	}{{"Files", c.Files == nil}, {"Named", c.Named == nil}, {"Clock", c.Clock == nil}, {"Tree", c.Tree == nil}} {
		if f.missing {
			bad.Add(f.name, "is missing")
		}
	}
	if c.Tree != nil {
		if _, ok := c.Tree.Node(c.Code); !ok {
			bad.Add("Code", "%.20q: want a code of the tree", string(c.Code))
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, bad.Err(fault.Invalid, "fetch")
}

// allowed checks that a journal is of this node or below it and names the attachment, and says by which child its node is
// reached; none for the own journal.
func (c *Config) allowed(ctx context.Context, id journal.ID, sha []byte) (child jurisdiction.Code, err error) {
	if _, err := attachment.Address(sha); err != nil {
		return "", err
	}
	n, ok := c.Tree.Journal(id)
	if !ok || !c.Tree.Within(n.Code, c.Code) {
		return "", fault.Refuse(fault.NotFound, "no such journal here", fault.Field{Field: "journal", Description: id.String() + " is neither this node's nor of one below"})
	}
	named, err := c.Named(ctx, id, sha)
	if err != nil {
		return "", err
	}
	if !named {
		return "", fault.New(fault.NotFound, "no entry of journal %s names attachment %x", id, sha)
	}
	for ; n.Code != c.Code; n, _ = c.Tree.Node(n.Parent) {
		child = n.Code
	}
	return child, nil
}
