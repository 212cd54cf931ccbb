package app

import (
	"context"
	"fmt"
	"os"

	"duban.internal/federation/audit"
	"duban.internal/federation/topology"
	"duban.internal/node/fault"
	"duban.internal/node/store/embedded"
)

// VerifyOptions say what to verify.
type VerifyOptions struct {
	Dir string // data folder of a node that does not run
	// Topology is the tree's file, for the keys by which checkpoints and countersignatures are checked; empty to leave
	// them out.
	Topology string
	// Progress is told while it goes on; may be nil.
	Progress func(doing string, done, total uint64)
}

// Verified is what Inspect found.
type Verified struct {
	*embedded.Report
	Checkpoints       int // checked, of journals from below
	Countersignatures int // checked, of the parent
	Attachments       int // files whose bytes are what their names say

	found []embedded.Finding // about attachments
}

// Inspect checks a data folder that no process uses, and changes nothing in it: every byte of its journals, their trees,
// that folding them afresh gives the same tables, every attachment, and, by the keys of a topology, every checkpoint and
// countersignature kept. What is wrong is in the report; an error means that it could not look.
func Inspect(ctx context.Context, o VerifyOptions) (*Verified, error) {
	if err := dataFolder(o.Dir); err != nil {
		return nil, err
	}
	var out Verified
	options := storeOptions()
	var tree *topology.Tree
	if o.Topology != "" {
		var err error
		if tree, err = topology.Load(o.Topology); err != nil {
			return nil, err
		}
	}
	looked, failed := false, error(nil)
	options.Also = func(ctx context.Context, c embedded.Contents) (wrong []error) {
		if tree != nil {
			wrong = out.audit(ctx, c, tree)
		}
		looked, failed = true, out.attachments(ctx, c, attachmentsDir(o.Dir), o.Progress)
		return wrong
	}
	report, err := embedded.Verify(ctx, storeDir(o.Dir), options, o.Progress)
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	report.Findings = append(report.Findings, out.found...)
	if !looked {
		report.Notes = append(report.Notes, "attachments and what is signed were not checked: the tables are damaged")
	}
	if o.Topology == "" {
		report.Notes = append(report.Notes, "checkpoints and countersignatures were not checked: that takes the tree's topology.yaml")
	}
	out.Report = report
	return &out, nil
}

// audit checks what is signed. The own journal comes first.
func (v *Verified) audit(ctx context.Context, c embedded.Contents, tree *topology.Tree) (wrong []error) {
	journals := c.Journals()
	if len(journals) == 0 {
		return nil
	}
	own, ok := tree.Journal(journals[0].ID)
	if !ok {
		return []error{fmt.Errorf("the topology knows no journal %s: it is another tree's, or older than this folder", journals[0].ID)}
	}
	report, err := audit.Checkpoints(ctx, c, tree, own.Code)
	if err != nil {
		return []error{err}
	}
	v.Checkpoints, v.Countersignatures = report.Checkpoints, report.Countersignatures
	for _, p := range report.Problems {
		wrong = append(wrong, fmt.Errorf("%s", p))
	}
	return wrong
}

// Verify is Inspect for those who only want to know: an error (fault.Corrupt) names each finding.
func Verify(ctx context.Context, o VerifyOptions) error {
	v, err := Inspect(ctx, o)
	if err != nil {
		return err
	}
	return v.Err()
}

// Err is nil where all is sound.
func (v *Verified) Err() error {
	var l fault.List
	for _, f := range v.Findings {
		field := f.Where
		if f.Entry >= 0 {
			field = fmt.Sprintf("entry %d", f.Entry)
		}
		l.Add(field, "%s", f)
	}
	return l.Err(fault.Corrupt, "the data folder is not sound")
}

// Rebuild drops the tables that are folded from entries, in a data folder that no process uses, and folds them anew.
func Rebuild(ctx context.Context, dir string, progress func(doing string, done, total uint64)) error {
	if err := dataFolder(dir); err != nil {
		return err
	}
	return embedded.Rebuild(ctx, storeDir(dir), storeOptions(), progress)
}

func storeOptions() embedded.Options {
	c := storeConfig("")
	return embedded.Options{Folds: c.Folds, Tables: c.Tables, Known: c.Known}
}

func dataFolder(dir string) error {
	if _, err := os.Stat(storeDir(dir)); err != nil {
		return fault.New(fault.Invalid, "%s is not a node's data folder: %w", dir, err)
	}
	return nil
}
