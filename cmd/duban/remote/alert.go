package remote

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/exit"
	"duban.internal/cmd/duban/show"
	dubanv1 "duban.internal/proto/duban/v1"
)

func alerts() *cobra.Command {
	return group("alert", "Work on alerts (预警)", "Work on alerts (预警) at a running node: see what is open, handle a level, dispute a handling, reopen what was withdrawn.",
		alertList(), alertShow(), alertHandle(), alertDispute(), alertReopen(), alertWatch())
}

func alertList() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "list", Short: "List alerts, soonest due first", Args: cobra.NoArgs,
		Example: "  duban alert list --open\n  duban alert list --open --level 2 --in 120116 --json\n" +
			"  duban alert list --claimed    # withdrawn on the word of the node below alone: look at them, and reopen what you doubt",
	}, func(t *talk, _ []string) error {
		limit, err := t.limit()
		if err != nil {
			return err
		}
		level, err := t.cmd.Flags().GetUint32("level")
		if err != nil {
			return err
		}
		client := dubanv1.NewAlertServiceClient(t.conn)
		out := &dubanv1.ListAlertsResponse{}
		for token := ""; ; {
			page, err := call(t, client.ListAlerts, &dubanv1.ListAlertsRequest{
				Jurisdiction: t.text("in"), OpenOnly: t.yes("open"), Level: level, PageSize: int32(min(1000, limit-len(out.Alerts))), PageToken: token,
				ClaimedOnly: t.yes("claimed"),
			})
			if err != nil {
				return err
			}
			out.Alerts, token = append(out.Alerts, page.Alerts...), page.NextPageToken
			if out.NextPageToken = token; token == "" || len(out.Alerts) >= limit {
				break
			}
		}
		return t.print(out, func() error {
			table := show.NewTable("alert", "grade", "point", "article", "case", "jurisdiction", "agency", "round/level", "state", "receiver", "due", "marks")
			for _, a := range out.Alerts {
				alertRow(table, a)
			}
			return t.table(table, out.NextPageToken != "", "no alert")
		})
	})
	c.Flags().String("in", "", "only cases in this jurisdiction or below it")
	c.Flags().Bool("open", false, "only alerts with an open level")
	c.Flags().Bool("claimed", false, "only alerts with a level that was withdrawn as claimed and not reopened")
	c.Flags().Uint32("level", 0, "only alerts whose highest open level is this; 0 for all")
	limitFlag(c)
	return c
}

// alertRow shows an alert by its last level.
func alertRow(table *show.Table, a *dubanv1.Alert) {
	l := &dubanv1.AlertLevel{}
	if len(a.Levels) > 0 {
		l = a.Levels[len(a.Levels)-1]
	}
	mark := ""
	if a.Generated {
		mark = "generated"
	}
	table.Row(short(a.AlertId), a.Grade, a.Point, a.Article, a.CaseId, a.Jurisdiction, a.Agency, fmt.Sprintf("%d/%d", l.Round, l.Level), state(l), receiver(l), due(l), mark)
}

// short is an alert's id as people type it; the node takes any prefix that is unique.
func short(id string) string { return id[:min(12, len(id))] }

func state(l *dubanv1.AlertLevel) string {
	s := strings.ToLower(strings.TrimPrefix(l.State.String(), "LEVEL_STATE_"))
	if l.Late {
		s += ", handled late"
	}
	if l.Withdrawn != dubanv1.Basis_BASIS_UNSPECIFIED {
		basis := strings.ToLower(strings.TrimPrefix(l.Withdrawn.String(), "BASIS_"))
		if l.State == dubanv1.LevelState_LEVEL_STATE_WITHDRAWN {
			return s + " as " + basis
		}
		s += ", had been withdrawn as " + basis
	}
	return s
}

// remarks say how a level came to be opened, where that was not by the handling of the level below running out.
func remarks(l *dubanv1.AlertLevel) string {
	var said []string
	if l.NotOpenedBelow {
		said = append(said, "not opened by "+l.Below)
	}
	if l.OnSilence {
		said = append(said, "opened on the silence of "+l.Below)
	}
	if l.ReopenedUs != 0 {
		said = append(said, "reopened "+show.Time(l.ReopenedUs)+": "+l.ReopenReason)
	}
	return strings.Join(said, "; ")
}

func receiver(l *dubanv1.AlertLevel) string { return strings.Trim(l.Role+"@"+l.Receiver, "@") }

func due(l *dubanv1.AlertLevel) string {
	if l.OpenEndedYear != 0 {
		return fmt.Sprintf("open: calendar of %d not published", l.OpenEndedYear)
	}
	return show.Time(l.DueUs)
}

func tellAlert(w io.Writer, a *dubanv1.Alert) error {
	status := "open"
	if a.Closed {
		status = "closed"
	}
	fmt.Fprintf(w, "alert %s  %s\n", a.AlertId, status)
	for _, l := range [][2]string{
		{"point", a.Point + " (" + a.Article + ", " + a.Grade + ")"}, {"case", a.CaseId}, {"jurisdiction", a.Jurisdiction},
		{"agency", a.Agency}, {"text", a.Text}, {"made up", map[bool]string{true: "generated records"}[a.Generated]},
	} {
		if l[1] != "" {
			fmt.Fprintf(w, "  %-13s %s\n", l[0], show.OneLine(l[1]))
		}
	}
	fmt.Fprintln(w)
	table := show.NewTable("round/level", "state", "receiver", "opened", "limit", "due", "handled", "journal", ">entry", "remarks")
	for _, l := range a.Levels {
		table.Row(fmt.Sprintf("%d/%d", l.Round, l.Level), state(l), receiver(l), show.Time(l.OpenedUs), l.Limit, due(l), show.Time(l.HandledUs),
			journalID(l.Journal), l.Number, remarks(l))
	}
	if err := table.Write(w); err != nil {
		return err
	}
	for _, l := range a.Levels { // sentences, which would make the table too wide
		if l.Action != "" {
			fmt.Fprintf(w, "  %d/%d  %s\n", l.Round, l.Level, show.OneLine(fmt.Sprintf("%s by %s: %s", l.Action, l.HandledBy, l.Explanation)))
		}
	}
	return nil
}

func alertShow() *cobra.Command {
	return withNode(&cobra.Command{
		Use: "show ALERT", Short: "Show one alert with every level of every round", Args: cobra.ExactArgs(1),
		Example: "  duban alert show 3fa9c2    # a prefix of the id that is unique, at least 6 characters",
	}, func(t *talk, args []string) error {
		answer, err := call(t, dubanv1.NewAlertServiceClient(t.conn).GetAlert, &dubanv1.GetAlertRequest{AlertId: args[0]})
		if err != nil {
			return err
		}
		return t.print(answer.Alert, func() error { return tellAlert(t.cmd.OutOrStdout(), answer.Alert) })
	})
}

func alertHandle() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "handle ALERT", Short: "Handle a level (预警处理)", Args: cobra.ExactArgs(1),
		Long: "Handle the open level that this node's office receives (预警处理). It takes an action, by the profile's name\n" +
			"(see `duban profile show`), and an explanation. Level 1 is the agency's own legal unit's: its certificate handles it.",
		Example: "  duban alert handle 3fa9c2 --action explained --explanation '已补派执法人员' --by 机关法制机构 \\\n" +
			"      --identity keys/clients/agency-binhai-market",
	}, func(t *talk, args []string) error {
		round, err := t.cmd.Flags().GetUint32("round")
		if err != nil {
			return err
		}
		level, err := t.cmd.Flags().GetUint32("level")
		if err != nil {
			return err
		}
		answer, err := call(t, dubanv1.NewAlertServiceClient(t.conn).HandleAlert, &dubanv1.HandleAlertRequest{
			RequestId: t.requestID(), AlertId: args[0], Round: round, Level: level, Action: t.text("action"),
			Explanation: t.text("explanation"), HandledBy: t.text("by"),
		})
		if err != nil {
			return err
		}
		return t.print(answer.Alert, func() error { return tellAlert(t.cmd.OutOrStdout(), answer.Alert) })
	})
	texts(c, "action", "what was done, by the profile's name", "explanation", "why and how; never empty", "by", "who handles it")
	requestFlag(c)
	c.Flags().Uint32("round", 0, "round; the present one by default")
	c.Flags().Uint32("level", 0, "level; the open one that the caller's office receives by default")
	return c
}

func alertDispute() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "dispute ALERT", Short: "Dispute the handling of the level below (提出异议): a new round starts", Args: cobra.ExactArgs(1),
		Example: "  duban alert dispute 3fa9c2 --reason '说明与案卷不符' --by 区政府法制机构 --identity keys/clients/office-legal_office-120116",
	}, func(t *talk, args []string) error {
		answer, err := call(t, dubanv1.NewAlertServiceClient(t.conn).DisputeAlert, &dubanv1.DisputeAlertRequest{
			RequestId: t.requestID(), AlertId: args[0], Reason: t.text("reason"), DisputedBy: t.text("by"),
		})
		if err != nil {
			return err
		}
		return t.print(answer.Alert, func() error { return tellAlert(t.cmd.OutOrStdout(), answer.Alert) })
	})
	texts(c, "reason", "reasons", "by", "who disputes it")
	requestFlag(c)
	return c
}

func alertReopen() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "reopen ALERT", Short: "Reopen a level that was withdrawn as claimed (恢复预警)", Args: cobra.ExactArgs(1),
		Long: "Reopen the level that this node's office receives and that was withdrawn as claimed: on the word of the node below\n" +
			"alone, which no node above it had witnessed in time. Its limit counts anew (恢复预警).",
		Example: "  duban alert list --claimed\n  duban alert reopen 3fa9c2 --reason '街道未提供处理材料' --by 区司法局 --identity keys/clients/office-legal_office-120116",
	}, func(t *talk, args []string) error {
		answer, err := call(t, dubanv1.NewAlertServiceClient(t.conn).ReopenAlert, &dubanv1.ReopenAlertRequest{
			RequestId: t.requestID(), AlertId: args[0], Reason: t.text("reason"), ReopenedBy: t.text("by"),
		})
		if err != nil {
			return err
		}
		return t.print(answer.Alert, func() error { return tellAlert(t.cmd.OutOrStdout(), answer.Alert) })
	})
	texts(c, "reason", "reasons", "by", "who reopens it")
	requestFlag(c)
	return c
}

func alertWatch() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "watch", Short: "Show alerts as they change, until interrupted", Args: cobra.NoArgs,
		Long:    "Show alerts as they change: first those that are open, then every one that changes, until interrupted. With --json, one object a line.",
		Example: "  duban alert watch --in 120116\n  duban alert watch --json | jq -c '{alert_id, point, levels: (.levels | length)}'",
	}, func(t *talk, _ []string) error {
		stream, err := dubanv1.NewAlertServiceClient(t.conn).WatchAlerts(t.cmd.Context(), &dubanv1.WatchAlertsRequest{Jurisdiction: t.text("in")})
		if err != nil {
			return exit.Remote(err)
		}
		for {
			change, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case t.cmd.Context().Err() != nil:
				return nil // interrupted by who watches: that is how it ends
			case err != nil:
				return exit.Remote(err)
			}
			if t.json {
				err = show.Line(t.cmd.OutOrStdout(), change.Alert)
			} else {
				err = tellChange(t.cmd.OutOrStdout(), change.Alert)
			}
			if err != nil {
				return err
			}
		}
	})
	c.Flags().String("in", "", "only cases in this jurisdiction or below it")
	return c
}

func tellChange(w io.Writer, a *dubanv1.Alert) error {
	l := &dubanv1.AlertLevel{}
	if len(a.Levels) > 0 {
		l = a.Levels[len(a.Levels)-1]
	}
	at := max(l.OpenedUs, l.HandledUs, l.WithdrawnUs, l.ReopenedUs)
	_, err := fmt.Fprintln(w, show.Clean(strings.ReplaceAll(fmt.Sprintf("%s  %s  %s (%s)  case %s of %s  round %d level %d %s  %s  due %s",
		show.Time(at), short(a.AlertId), a.Point, a.Article, a.CaseId, a.Agency, l.Round, l.Level, state(l), receiver(l), due(l)), "\n", " ")))
	return err
}
