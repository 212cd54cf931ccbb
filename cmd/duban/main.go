// Command duban runs a node of Duban (督办), the supervision platform for administrative law enforcement, and everything
// around one: keys, verification, import, and the work on cases and alerts from a terminal. `duban help` lists the commands,
// `duban help exit-codes` says what they end with.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/exit"
	"duban.internal/cmd/duban/remote"
	"duban.internal/cmd/duban/show"
	"duban.internal/node/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program but for signals and os.Exit.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	begun := false
	eachCommand(root, func(c *cobra.Command) { prepare(c, &begun) })
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exit.OK
	}
	if !begun { // flags and arguments: cobra's own words
		if _, classified := errors.AsType[*fault.Error](err); !classified {
			err = exit.With(exit.Usage, err)
		}
	}
	exit.Tell(stderr, err, wantsJSON(root, args))
	return exit.Code(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "duban",
		Short: "Duban (督办): supervision of administrative law enforcement, from street to city",
		Long: `Duban (督办, "to see that a thing gets done") keeps what agencies record in journals that can be proved, watches the
limits of the regulation, and escalates what nobody handled: one node for each city, district and street.`,
		Example: "  duban demo                                    # a city with districts and streets, and a story, on this machine\n" +
			"  duban keygen keys --city 120000 --node 120116 --node 120116013\n" +
			"  duban serve --config configs/district.yaml\n  duban status --identity keys/clients/operator-120116",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().Bool("json", false, "write for programs")
	root.AddCommand(serve(), demonstrate(), simulate(), keygen(), profiles(), verify(), rebuild(), version(),
		&cobra.Command{Use: "exit-codes", Short: "What the numbers mean that commands end with", Long: exit.Help})
	root.AddCommand(remote.Commands()...)
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, do)
	}
}

// prepare notes when a command begins, for all errors before that are wrong usage, and makes a command that only holds
// others say which there are.
func prepare(c *cobra.Command, begun *bool) {
	if c.RunE != nil {
		work := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*begun = true
			return work(cmd, args)
		}
		return
	}
	if c.HasSubCommands() && c.HasParent() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			var names []string
			for _, sub := range cmd.Commands() {
				names = append(names, sub.Name())
			}
			return fmt.Errorf("unknown command %q for %q: expected %s", args[0], cmd.CommandPath(), strings.Join(names, ", "))
		}
	}
}

// wantsJSON is whether --json was given, also where the flags could not be read to their end.
func wantsJSON(root *cobra.Command, args []string) bool {
	if given, err := root.PersistentFlags().GetBool("json"); err == nil && given {
		return true
	}
	for _, a := range args {
		if a == "--json" || a == "--json=true" {
			return true
		}
	}
	return false
}

func asJSON(cmd *cobra.Command) bool {
	v, err := cmd.Flags().GetBool("json")
	return err == nil && v
}

func version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: cobra.NoArgs, Example: "  duban version --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON(cmd) {
				return show.JSON(cmd.OutOrStdout(), map[string]string{"version": app.Version(), "go": app.GoVersion()})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "duban %s (%s)\n", app.Version(), app.GoVersion())
			return err
		},
	}
}
