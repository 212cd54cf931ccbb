package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/settings"
	"duban.internal/cmd/duban/show"
)

func serve() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "serve", Short: "Run a node (节点)", Args: cobra.NoArgs,
		Long: `Run a node until it is interrupted. Settings come from the file, then from the environment (intervals.grace is
DUBAN_INTERVALS_GRACE), then from flags, the later before the earlier; configs/ has one file for each tier, explained line
by line. An unknown key is an error.

When the node takes work it says so on standard output, with the addresses that it really listens on (ports may be 0).
Its log goes to standard error.`,
		Example: "  duban serve --config configs/district.yaml\n" +
			"  DUBAN_LOG_LEVEL=debug duban serve --config configs/street.yaml --listen 127.0.0.1:0 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := settings.Load(file, os.Environ(), cmd.Flags())
			if err != nil {
				return err
			}
			c.Patch = app.PatchOf(os.Environ())
			node, err := app.New(cmd.Context(), c)
			if err != nil {
				return err
			}
			if err := sayReady(cmd, node); err != nil {
				return err
			}
			return node.Run(cmd.Context())
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML)")
	settings.Flags(c.Flags())
	return c
}

// sayReady tells people, or the program that started the node, where it listens.
func sayReady(cmd *cobra.Command, node *app.Node) error {
	if asJSON(cmd) {
		return show.Line(cmd.OutOrStdout(), map[string]string{
			"code": node.Code(), "name": node.Name(), "address": node.Addr(), "metrics": node.MetricsAddr(),
		})
	}
	said := []string{"gRPC " + node.Addr()}
	if node.MetricsAddr() != "" {
		said = append(said, "health and metrics http://"+node.MetricsAddr())
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "node %s (%s) is up: %s\n", node.Code(), node.Name(), strings.Join(said, ", "))
	return err
}
