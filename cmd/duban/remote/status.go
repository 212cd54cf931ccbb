package remote

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/show"
	dubanv1 "duban.internal/proto/duban/v1"
)

func status() *cobra.Command {
	return withNode(&cobra.Command{
		Use: "status", Short: "Show how a node stands: tree, lag, clocks, cases, alerts by level", Args: cobra.NoArgs,
		Example: "  duban status --node 127.0.0.1:7443 --identity keys/clients/operator-120000\n  duban status --json | jq .cases",
	}, func(t *talk, _ []string) error {
		answer, err := call(t, dubanv1.NewNodeServiceClient(t.conn).GetStatus, &dubanv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		return t.print(answer, func() error { return tellStatus(t.cmd.OutOrStdout(), answer) })
	})
}

func tellStatus(w io.Writer, s *dubanv1.GetStatusResponse) error {
	role := "follows"
	if s.Leader {
		role = "leads"
	}
	fmt.Fprintf(w, "%s %s (%s), duban %s, %s\n", s.Code, s.Name, s.Tier, s.Version, role)
	fmt.Fprintf(w, "  clock     %s\n  profile   %s\n  calendar  %s\n", show.Time(s.NowUs), s.Profile, s.Calendar)
	if s.ClockStopped != "" {
		fmt.Fprintf(w, "            NOTHING IS RECORDED: the clock is not believed, for %s\n", s.ClockStopped)
	}
	if s.CalendarMissingYear != 0 {
		fmt.Fprintf(w, "            the days off of %d are not published: limits that need them are open-ended\n", s.CalendarMissingYear)
	}
	if s.Parent != "" {
		state := "not connected"
		if s.ParentConnected {
			state = "connected, its clock " + show.Skew(s.ParentSkewUs) + " from ours"
		}
		fmt.Fprintf(w, "  parent    %s, %s\n", s.Parent, state)
		if s.ParentProblem != "" {
			fmt.Fprintf(w, "            %s\n", s.ParentProblem)
		}
	}
	if err := tellAncestors(w, s); err != nil {
		return err
	}
	fmt.Fprintln(w)
	journals := show.NewTable("tree", "name", "journal", ">entries", ">lag", "checkpoint", "heard", ">skew", "")
	depth := map[string]int{}
	for i, j := range s.Journals {
		if i > 0 {
			depth[j.Code] = depth[j.Parent] + 1
		}
		lag, heard, skew, trouble := "", "", "", j.Refused
		if j.Own {
			trouble = "own"
		}
		if j.Refused != "" {
			trouble = "refused: " + j.Refused
		}
		if j.SilentUs != 0 {
			trouble += " silent since " + show.Time(j.SilentUs)
		}
		if j.FoldStopped != "" {
			trouble += " fold stopped: " + j.FoldStopped
		}
		if n := j.UnapprovedErasures; n > 0 {
			trouble += fmt.Sprintf(" %d payloads erased without approval", n)
		}
		if j.Behind != 0 {
			trouble += fmt.Sprintf(" %d more below", j.Behind)
		}
		if s.Parent != "" {
			lag = fmt.Sprint(j.Size - min(j.Size, j.Acknowledged))
		}
		if !j.Own && j.HeardUs != 0 {
			heard = ago(s, j.HeardUs)
			skew = show.Skew(j.SkewUs)
		}
		journals.Row(strings.Repeat("· ", depth[j.Code])+j.Code, j.Name, journalID(j.Journal), j.Size, lag, show.Time(j.CheckpointUs), heard, skew, strings.TrimSpace(trouble))
	}
	if err := journals.Write(w); err != nil {
		return err
	}
	c := s.GetCases()
	fmt.Fprintf(w, "\ncases     %d: %d open, %d closed; %d of them imported\n", c.GetTotal(), c.GetOpen(), c.GetClosed(), c.GetImported())
	for _, o := range c.GetOverdue() {
		fmt.Fprintf(w, "          %s: %d ended after %s, %d never ended\n", o.Point, o.EndedLate, o.Limit, o.NeverEnded)
	}
	if len(s.Alerts) == 0 {
		_, err := fmt.Fprintln(w, "alerts    none")
		return err
	}
	fmt.Fprintln(w)
	alerts := show.NewTable(">level", "state", ">alerts")
	for _, a := range s.Alerts {
		alerts.Row(a.Level, state(&dubanv1.AlertLevel{State: a.State}), a.Count)
	}
	return alerts.Write(w)
}

// tellAncestors says what the nodes above have witnessed of this node's journal, and what they sent down.
func tellAncestors(w io.Writer, s *dubanv1.GetStatusResponse) error {
	if len(s.Ancestors) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	table := show.NewTable("above", "witnessed", ">entries", "heard", ">letters", "")
	for _, a := range s.Ancestors {
		heard, said := "never", ""
		if a.HeardUs != 0 {
			heard = ago(s, a.HeardUs)
		}
		if a.Direct {
			said = "dialed directly"
		}
		if a.Refused != "" {
			said += " letters refused: " + a.Refused
		}
		table.Row(a.Code, show.Time(a.WitnessedUs), a.WitnessedSize, heard, a.Letters, strings.TrimSpace(said))
	}
	return table.Write(w)
}

func ago(s *dubanv1.GetStatusResponse, us int64) string {
	return (time.Duration(max(0, s.NowUs-us)) * time.Microsecond).Round(time.Second).String() + " ago"
}
