package main

import (
	"os"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/app/demo"
)

func demonstrate() *cobra.Command {
	var o demo.Options
	var processes bool
	c := &cobra.Command{
		Use: "demo", Short: "Put up a city with districts and streets on this machine, and tell its stories", Args: cobra.NoArgs,
		Long: `Put up a city with districts and streets on this machine, each a real node with its own data folder and port on
loopback, on a fast clock, and tell nine stories: of limits that run out, and of nodes that are cut off, switched off,
patched or turned back in time. It ends with a table of what became of the alerts. Then the tree keeps running until it is interrupted, unless --once is given: that ends with 0 if all stories
ended as they should, else with 1.`,
		Example: "  duban demo\n  duban demo --once --json\n  duban demo --once --processes --dir /tmp/tianjin",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.JSON, o.Out = asJSON(cmd), cmd.OutOrStdout()
			if processes {
				binary, err := os.Executable()
				if err != nil {
					return err
				}
				o.Binary = binary
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	c.Flags().BoolVar(&o.Once, "once", false, "end when the stories are told: with 0 if all ended as they should, else with 1")
	c.Flags().BoolVar(&processes, "processes", false, "run every node as a process of its own, instead of all in this one")
	c.Flags().StringVar(&o.Dir, "dir", "", "empty folder for keys, data and logs, which stay; by default a temporary one, removed at the end")
	return c
}
