package main

import (
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/show"
	"duban.internal/node/clock"
)

func verify() *cobra.Command {
	var o app.VerifyOptions
	c := &cobra.Command{
		Use: "verify DIR", Short: "Check a node's data folder, byte by byte and signature by signature", Args: cobra.ExactArgs(1),
		Long: `Check the data folder of a node that does not run: every byte of its journals and of those from below, their trees, and
that folding all entries afresh gives the same tables, and that every attachment is what its name says and all that the
node's own entries name are there. With --topology also every checkpoint and countersignature that
the node keeps, by the keys of the tree. Nothing in the folder is changed. It ends with 0 if all is sound, and otherwise
with 3 and every finding, with the number of the entry.`,
		Example: "  duban verify /var/lib/duban/120116 --topology /etc/duban/topology.yaml\n  duban verify copy-of-a-folder --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			progress := show.NewProgress(cmd.ErrOrStderr(), clock.System())
			o.Progress = saying(progress)
			v, err := app.Inspect(cmd.Context(), o)
			progress.Done()
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				err = show.JSON(cmd.OutOrStdout(), verdict(v))
			} else {
				err = tellVerified(cmd, v)
			}
			if err != nil {
				return err
			}
			return v.Err()
		},
	}
	c.Flags().StringVar(&o.Topology, "topology", "", "the tree's topology.yaml, for the keys of journals")
	return c
}

func rebuild() *cobra.Command {
	return &cobra.Command{
		Use: "rebuild DIR", Short: "Throw a node's tables away and fold them anew from its journals", Args: cobra.ExactArgs(1),
		Long: `Throw away the tables of a node that does not run, and fold them anew from its journals. The journals stay as they are:
they are the truth, tables only show it.`,
		Example: "  duban rebuild /var/lib/duban/120116",
		RunE: func(cmd *cobra.Command, args []string) error {
			progress := show.NewProgress(cmd.ErrOrStderr(), clock.System())
			var folded uint64
			say := saying(progress)
			err := app.Rebuild(cmd.Context(), args[0], func(doing string, done, total uint64) {
				folded = total
				say(doing, done, total)
			})
			progress.Done()
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				return show.JSON(cmd.OutOrStdout(), map[string]any{"rebuilt": true, "entries": folded})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "rebuilt the tables of %s: folded %s of all journals\n", args[0], entriesOf(folded))
			return err
		},
	}
}

func entriesOf(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func saying(p *show.Progress) func(string, uint64, uint64) {
	return func(doing string, done, total uint64) { p.Say("%s: %d of %d", doing, done, total) }
}

// sound is what verify tells programs.
type sound struct {
	Sound             bool          `json:"sound"`
	Journals          []soundStream `json:"journals"`
	Tables            int           `json:"tables"` // compared with a fresh folding
	Rows              uint64        `json:"rows"`
	Checkpoints       int           `json:"checkpoints"`
	Countersignatures int           `json:"countersignatures"`
	Attachments       int           `json:"attachments"` // whose bytes are what their names say
	Findings          []finding     `json:"findings"`
	Notes             []string      `json:"notes"`
}

type soundStream struct {
	Journal string `json:"journal"`
	Own     bool   `json:"own"`
	Size    uint64 `json:"size"`
	Erased  uint64 `json:"erased"`
	Root    string `json:"root"`
}

type finding struct {
	Journal string `json:"journal,omitempty"`
	Entry   *int64 `json:"entry,omitempty"`
	Where   string `json:"where"`
	What    string `json:"what"`
}

func verdict(v *app.Verified) sound {
	out := sound{
		Sound: v.Err() == nil, Tables: len(v.Tables), Checkpoints: v.Checkpoints, Countersignatures: v.Countersignatures, Attachments: v.Attachments,
		Journals: []soundStream{}, Findings: []finding{}, Notes: append([]string{}, v.Notes...),
	}
	for _, t := range v.Tables {
		out.Rows += t.Rows
	}
	for _, j := range v.Journals {
		out.Journals = append(out.Journals, soundStream{j.ID.String(), j.Own, j.Size, j.Erased, hex.EncodeToString(j.Root[:])})
	}
	for _, f := range v.Findings {
		one := finding{Where: f.Where, What: f.What}
		if !f.Journal.IsZero() {
			one.Journal = f.Journal.String()
		}
		if f.Entry >= 0 {
			one.Entry = &f.Entry
		}
		out.Findings = append(out.Findings, one)
	}
	return out
}

func tellVerified(cmd *cobra.Command, v *app.Verified) error {
	w := cmd.OutOrStdout()
	s := verdict(v)
	table := show.NewTable("journal", "whose", ">entries", ">erased", "root")
	for _, j := range s.Journals {
		table.Row(j.Journal, map[bool]string{true: "own", false: "from below"}[j.Own], j.Size, j.Erased, j.Root)
	}
	if err := table.Write(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "tables compared with a fresh folding: %d, with %d rows\ncheckpoints checked: %d, countersignatures checked: %d\nattachments checked: %d\n",
		s.Tables, s.Rows, s.Checkpoints, s.Countersignatures, s.Attachments)
	for _, n := range s.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	if s.Sound {
		_, err := fmt.Fprintln(w, "sound")
		return err
	}
	_, err := fmt.Fprintf(w, "NOT sound: %s\n", show.Count(len(s.Findings), "finding"))
	return err
}
