package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/app/sim"
	"duban.internal/cmd/duban/exit"
	"duban.internal/cmd/duban/show"
	"duban.internal/node/clock"
)

func simulate() *cobra.Command {
	var (
		o       = sim.Options{Histories: 100}
		minutes float64
		days    int
		trace   bool
	)
	c := &cobra.Command{
		Use: "simulate", Short: "Run a whole city's tree in virtual time, break what can break, and look at what must hold", Args: cobra.NoArgs,
		Long: `Run a whole city's tree (a city, districts, streets) in virtual time: the real intake, folds, runner and both ends of
the sync over stores in memory, on lines that lose, delay, repeat, reorder and cut, with nodes that crash and forget what
was not synced, and clocks that jump. Each seed is one history of some weeks; the same seed is the same history, to the
hash of its trace. After every step, and at the end of each history, it looks at what must hold. The first violation is
shown with its seed and the events before it, and the command ends with 1.

Without --seed it begins at a fresh one, which it prints. With --minutes it goes on for so long, however many histories.`,
		Example: "  duban simulate                                # 100 fresh histories\n" +
			"  duban simulate --seed 7 --histories 1 --trace # every event of one\n" +
			"  duban simulate --minutes 30 --json\n" +
			"  duban simulate --nodes 40 --days 60 --histories 10",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				o.Seed = uint64(rand.Uint32())
			}
			if minutes > 0 {
				o.Within = time.Duration(minutes * float64(time.Minute))
				if !cmd.Flags().Changed("histories") {
					o.Histories = 0
				}
			}
			o.Length = time.Duration(days) * 24 * time.Hour
			out := cmd.OutOrStdout()
			if trace {
				o.Trace = out
			}
			line := show.NewProgress(cmd.ErrOrStderr(), clock.System())
			o.Progress = func(r sim.Report) {
				line.Say("seed %d on: %d histories, %.0f a minute, %d levels opened", r.Seed, r.Histories, r.PerMinute(), r.Levels)
			}
			r, err := sim.Run(cmd.Context(), o)
			line.Done()
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				err = show.JSON(out, r)
			} else {
				_, err = fmt.Fprint(out, r.Text())
			}
			if err == nil && r.Violation != nil {
				return exit.With(exit.Failed, r.Violation)
			}
			return err
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.Seed, "seed", 0, "of the first history; the next has the next one; a fresh one where it is not given")
	f.IntVar(&o.Histories, "histories", o.Histories, "how many histories; with --minutes as many as fit")
	f.Float64Var(&minutes, "minutes", 0, "how long it may take, in real minutes; 0 for as long as it takes")
	f.IntVar(&o.Nodes, "nodes", 20, "of the tree, 3 to 120: a city, a fifth of them districts, the rest streets")
	f.IntVar(&days, "days", 14, "of virtual time that load and faults go on in each history")
	f.BoolVar(&trace, "trace", false, "print every event, one history at a time")
	return c
}
