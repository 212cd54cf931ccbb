package remote

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/show"
	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

func clocks() *cobra.Command {
	return group("clock", "Settle a node's clock", "Settle a clock that a node does not believe: `duban status` says why, and nothing is recorded meanwhile.", clockAccept())
}

func clockAccept() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "accept", Short: "Put on record that the node's clock is right as it is", Args: cobra.NoArgs,
		Long: "Put on record that the node's clock is right although it jumped, was turned back, or runs ahead of its parent's: the node\n" +
			"records again. First put the clock right; accept it only where it is the record or the parent's clock that is wrong.",
		Example: "  duban clock accept --reason '校时后确认本机时钟正确' --by 值班员 --identity keys/clients/operator-120116",
	}, func(t *talk, _ []string) error {
		answer, err := call(t, dubanv1.NewNodeServiceClient(t.conn).AcceptClock, &dubanv1.AcceptClockRequest{Reason: t.text("reason"), AcceptedBy: t.text("by")})
		if err != nil {
			return err
		}
		return t.print(answer, func() error {
			_, err := fmt.Fprintf(t.cmd.OutOrStdout(), "accepted on record: the clock shows %s\n", show.Time(answer.NowUs))
			return err
		})
	})
	texts(c, "reason", "why it is right", "by", "who accepts it")
	return c
}

func journals() *cobra.Command {
	return group("journal", "Settle journals that are refused", "Settle journals from below, or letters from above, that this node refuses: `duban status` lists them, with the reasons.", journalReadmit())
}

func journalReadmit() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "readmit CODE", Short: "Lift the refusal of a journal, once people have settled it", Args: cobra.ExactArgs(1),
		Long: "Lift the refusal of the journal of a jurisdiction below, or of letters from one above. It is taken again where it extends what is held; the evidence\n" +
			"stays on record, and what contradicts it is refused anew.",
		Example: "  duban journal readmit 120116013 --reason '已从备份恢复到被见证的状态' --by 区数据中心 --identity keys/clients/operator-120116",
	}, func(t *talk, args []string) error {
		client := dubanv1.NewNodeServiceClient(t.conn)
		status, err := call(t, client.GetStatus, &dubanv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		known, id := []string{}, []byte(nil)
		note := func(code string, journal []byte) {
			known = append(known, code)
			if code == args[0] {
				id = journal
			}
		}
		for _, j := range status.Journals {
			if !j.Own {
				note(j.Code, j.Journal)
			}
		}
		for _, a := range status.Ancestors {
			note(a.Code, a.Journal)
		}
		if id == nil {
			return fault.Refuse(fault.NotFound, "no such journal below or above this node", fault.Field{
				Field: "CODE", Description: fmt.Sprintf("%q: expected one of: %s", args[0], strings.Join(known, ", "))})
		}
		answer, err := call(t, client.ReadmitJournal, &dubanv1.ReadmitJournalRequest{Journal: id, Reason: t.text("reason"), DecidedBy: t.text("by")})
		if err != nil {
			return err
		}
		return t.print(answer, func() error {
			_, err := fmt.Fprintf(t.cmd.OutOrStdout(), "readmitted on record: the journal of %s goes on from entry %d\n", args[0], answer.Size)
			return err
		})
	})
	texts(c, "reason", "how it was settled", "by", "who decided")
	return c
}
