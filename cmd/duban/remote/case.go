package remote

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/show"
	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

func cases() *cobra.Command {
	return group("case", "Work on cases (案件)", "Work on cases (案件) at a running node: list and show them, open them, record what was done.",
		caseList(), caseShow(), caseOpen(), caseStage(), caseEvidence(), caseExplain(), caseCorrect(), caseDecide())
}

func caseList() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "list", Short: "List cases, newest first", Args: cobra.NoArgs,
		Example: "  duban case list --open --in 120116\n  duban case list --agency binhai-market --limit 20 --json",
	}, func(t *talk, _ []string) error {
		limit, err := t.limit()
		if err != nil {
			return err
		}
		client := dubanv1.NewCaseServiceClient(t.conn)
		out := &dubanv1.ListCasesResponse{}
		for token := ""; ; {
			page, err := call(t, client.ListCases, &dubanv1.ListCasesRequest{
				Jurisdiction: t.text("in"), Agency: t.text("agency"), OpenOnly: t.yes("open"),
				PageSize: int32(min(1000, limit-len(out.Cases))), PageToken: token,
			})
			if err != nil {
				return err
			}
			out.Cases, token = append(out.Cases, page.Cases...), page.NextPageToken
			if out.NextPageToken = token; token == "" || len(out.Cases) >= limit {
				break
			}
		}
		return t.print(out, func() error {
			table := show.NewTable("case", "number", "jurisdiction", "agency", "procedure", "stage", "opened", "closed", "marks")
			for _, c := range out.Cases {
				where := c.Jurisdiction
				if c.Division != "" {
					where = c.Division
				}
				table.Row(c.CaseId, c.Number, where, c.Agency, c.Procedure, c.Stage, show.Time(c.OpenedUs), show.Time(c.ClosedUs), marks(c))
			}
			return t.table(table, out.NextPageToken != "", "no case")
		})
	})
	c.Flags().String("in", "", "only cases in this jurisdiction or below it")
	c.Flags().String("agency", "", "only cases of this agency")
	c.Flags().Bool("open", false, "only cases that are not closed")
	limitFlag(c)
	return c
}

func marks(c *dubanv1.Case) string {
	var m []string
	if c.Generated {
		m = append(m, "generated")
	}
	if c.Imported {
		m = append(m, "imported")
	}
	return strings.Join(m, " ")
}

func caseShow() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "show CASE", Short: "Show one case whole", Args: cobra.ExactArgs(1),
		Example: "  duban case show 2026-0017\n  duban case show 2026-0017 --journal 5f0c...  # of a journal from below, see duban status",
	}, func(t *talk, args []string) error {
		var id []byte
		if text := t.text("journal"); text != "" {
			var err error
			if id, err = hex.DecodeString(text); err != nil || len(id) != 16 {
				return fault.Refuse(fault.Invalid, "flags", fault.Field{Field: "--journal", Description: "expected 32 hexadecimal digits"})
			}
		}
		answer, err := call(t, dubanv1.NewCaseServiceClient(t.conn).GetCase, &dubanv1.GetCaseRequest{CaseId: args[0], Journal: id})
		if err != nil {
			return err
		}
		return t.print(answer.Case, func() error { return tellCase(t.cmd.OutOrStdout(), answer.Case) })
	})
	c.Flags().String("journal", "", "journal of the case, for one from below; the node's own by default")
	return c
}

func tellCase(w io.Writer, c *dubanv1.Case) error {
	o := c.GetOpening()
	fmt.Fprintln(w, show.OneLine(fmt.Sprintf("case %s  %s  %s", c.CaseId, c.Number, marks(c))))
	opening := ""
	if o != nil {
		opening = fmt.Sprintf("entry %d of journal %x", c.OpeningEntry, c.Journal)
	}
	for _, l := range [][2]string{
		{"opening", opening}, {"jurisdiction", strings.TrimSpace(c.Jurisdiction + " " + c.Division)}, {"agency", c.Agency}, {"item", c.Item},
		{"procedure", c.Procedure}, {"source", o.GetSource()}, {"party", strings.TrimSpace(o.GetParty().GetName() + " " + o.GetParty().GetCreditCode())},
		{"summary", o.GetSummary()}, {"handler", o.GetHandler()}, {"fields", fields(o.GetFields())}, {"stage", c.Stage},
		{"opened", show.Time(c.OpenedUs)}, {"closed", show.Time(c.ClosedUs)},
	} {
		if l[1] != "" {
			fmt.Fprintf(w, "  %-13s %s\n", l[0], show.OneLine(l[1]))
		}
	}
	stages := show.NewTable(">entry", "stage", "completed", "recorded", "officers", "handler", "result", "documents", "fields", ">versions")
	for _, s := range c.Stages {
		var documents []string
		for _, d := range s.Stage.Documents {
			documents = append(documents, strings.TrimSpace(d.Name+" "+d.Code))
		}
		stages.Row(s.Number, s.Stage.Stage, show.Time(s.Stage.CompletedUs), show.Time(s.RecordedUs), strings.Join(s.Stage.Officers, " "),
			s.Stage.Handler, strings.TrimSpace(s.Stage.GetOpinion().GetResult()+" "+s.Stage.GetOpinion().GetReason()),
			strings.Join(documents, ", "), fields(s.Stage.Fields), s.Versions)
	}
	evidence := show.NewTable(">entry", "evidence", "stage", ">bytes", "type", "sha256")
	for i, e := range c.Evidence {
		evidence.Row(entryAt(c.EvidenceEntries, i), e.Name, e.Stage, e.Size, e.MediaType, hex.EncodeToString(e.Sha256))
	}
	explanations := show.NewTable(">entry", "explained", "stage", "officer", "explanation")
	for i, e := range c.Explanations {
		explanations.Row(entryAt(c.ExplanationEntries, i), e.Subject, e.Stage, e.Officer, e.Text)
	}
	corrections := show.NewTable("correction", ">of entry", "changes", "reason", "officer", "decision")
	for _, k := range c.Corrections {
		decision := "waits"
		if d := k.Decision; d != nil {
			decision = map[bool]string{true: "approved", false: "rejected"}[d.Approved] + " by " + d.DecidedBy + " " + d.Reason
		}
		corrections.Row(k.Request.CorrectionId, k.Request.Entry, fields(k.Request.Changes), k.Request.Reason, k.Request.Officer, decision)
	}
	for _, table := range []*show.Table{stages, evidence, explanations, corrections} {
		if table.Len() == 0 {
			continue
		}
		fmt.Fprintln(w)
		if err := table.Write(w); err != nil {
			return err
		}
	}
	return nil
}

// entryAt is empty where a node of an earlier version answers.
func entryAt(numbers []uint64, i int) string {
	if i < len(numbers) {
		return strconv.FormatUint(numbers[i], 10)
	}
	return ""
}

func fields(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ", ")
}

func limitFlag(c *cobra.Command) { c.Flags().Int("limit", 100, "rows at most") }

func (t *talk) limit() (int, error) {
	n, err := t.cmd.Flags().GetInt("limit")
	if err != nil || n < 1 {
		return 0, fault.Refuse(fault.Invalid, "flags", fault.Field{Field: "--limit", Description: "expected a number from 1 on"})
	}
	return n, nil
}

// table writes a table for people, or that there is nothing, or that there is more.
func (t *talk) table(table *show.Table, more bool, nothing string) error {
	if table.Len() == 0 {
		fmt.Fprintln(t.cmd.OutOrStdout(), nothing)
		return nil
	}
	err := table.Write(t.cmd.OutOrStdout())
	if more {
		fmt.Fprintln(t.cmd.ErrOrStderr(), "there are more: raise --limit")
	}
	return err
}
