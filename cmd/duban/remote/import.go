package remote

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/bulk"
	"duban.internal/cmd/duban/exit"
	"duban.internal/cmd/duban/show"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Streams and window keep a node's commits full: about streams times window rows are under way.
const (
	streams = 8
	window  = 128
)

func imports() *cobra.Command {
	c := withNode(&cobra.Command{
		Use: "import", Short: "Import history from CSV or JSON lines", Args: cobra.NoArgs,
		Long: `Import history from CSV or JSON lines, plain or gzipped, through a mapping file (configs/import has one; its form is
explained in cmd/duban/bulk). Every row ends as taken, already there or refused. An import may be interrupted or killed
and run again: nothing is recorded twice, and what was left half done is completed. Only the operator of a node brings
history, and imported cases open no levels.`,
		Example: "  duban import --mapping configs/import/chicago.yaml --input cases.csv.gz --refused refused.csv \\\n" +
			"      --node 127.0.0.1:7443 --identity keys/clients/operator-990100",
	}, func(t *talk, _ []string) error {
		m, err := bulk.LoadMapping(t.text("mapping"))
		if err != nil {
			return err
		}
		source, err := m.Open(t.text("input"))
		if err != nil {
			return err
		}
		defer source.Close()
		refused, err := m.CreateRefused(t.text("refused"))
		if err != nil {
			return err
		}
		progress := show.NewProgress(t.cmd.ErrOrStderr(), clock.System())
		client := dubanv1.NewCollectionServiceClient(t.conn)
		run := bulk.Run{
			Mapping: m, Source: source, Refused: refused, Streams: streams, Window: window,
			Open: func(ctx context.Context) (bulk.Stream, error) { return client.Collect(ctx) },
			Say: func(s bulk.Summary) {
				progress.Say("%3.0f %%  %d rows: %d taken, %d already there, %d refused", 100*source.Done(), s.Rows, s.Taken, s.AlreadyThere, s.Refused)
			},
		}
		begun := clock.System().Now()
		summary, runErr := run.Do(t.cmd.Context())
		progress.Done()
		if err := refused.Close(summary.Ended); err != nil && runErr == nil {
			runErr = fmt.Errorf("refused rows: %w", err)
		}
		if summary.RefusedFile = t.text("refused"); summary.RefusedFile != "" && !summary.Ended {
			summary.RefusedFile += ".part"
		}
		seconds := clock.System().Now().Sub(begun).Seconds()
		if err := t.print(summary, func() error { return tellImport(t.cmd.OutOrStdout(), summary, seconds) }); err != nil {
			return err
		}
		return ended(t.cmd.Context(), summary, runErr)
	})
	texts(c, "mapping", "how rows become cases and stages (YAML)", "input", "CSV or JSON lines, plain or gzipped", "refused", "file for refused rows: their columns, line and reasons")
	for _, name := range []string{"mapping", "input"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // no such flag: a defect
		}
	}
	return c
}

// ended is how an import ended, as an error for the exit code; nil where every row is recorded.
func ended(ctx context.Context, s bulk.Summary, err error) error {
	switch {
	case ctx.Err() != nil:
		return exit.With(exit.Interrupted, fmt.Errorf("interrupted: run the same command again to go on"))
	case err != nil && fault.Of(err) == fault.Invalid:
		return err
	case err != nil:
		return exit.Remote(fmt.Errorf("the import ended early; run the same command again to go on: %w", err))
	case s.Refused > 0:
		return exit.With(exit.Partly, fmt.Errorf("%d rows were refused; see --refused FILE for the reasons", s.Refused))
	}
	return nil
}

func tellImport(w io.Writer, s bulk.Summary, seconds float64) error {
	fmt.Fprintf(w, "%d rows in %.1f s: %d taken, %d already there, %d refused; %d entries added\n", s.Rows, seconds, s.Taken, s.AlreadyThere, s.Refused, s.Records)
	if s.Refused > 0 && s.RefusedFile != "" {
		fmt.Fprintf(w, "refused rows with reasons: %s\n", s.RefusedFile)
	}
	return nil
}
