package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"duban.internal/cmd/duban/app"
)

// startHere runs a node in this process. Its log goes to a file.
func startHere(ctx context.Context, config app.Config, logName string) (func(bool) error, error) {
	log, err := openLog(logName)
	if err != nil {
		return nil, err
	}
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n, err := app.New(ctx, config)
	if err != nil {
		cancel()
		return nil, errors.Join(err, log.Close())
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	return func(bool) error {
		cancel()
		err := <-done
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return errors.Join(err, n.Close(), log.Close())
	}, nil
}

func openLog(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// startProcess runs a node as `BINARY serve`. Its log goes to a file.
func startProcess(binary string, config app.Config, logName string) (func(bool) error, error) {
	log, err := openLog(logName)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(binary, arguments(config)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DUBAN_") }) // flags say it all
	cmd.Env = append(cmd.Env, config.Patch.Environ()...)                                                     // but how it is patched
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func(kill bool) error {
		if kill {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // says "killed": that was asked for
			return nil
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return fmt.Errorf("%s had ended by itself: %w%s", config.Code, cmd.Wait(), tail(logName))
		}
		return cmd.Wait()
	}, nil
}

// arguments is a configuration as the flags of `duban serve`.
func arguments(c app.Config) []string {
	args := []string{
		"serve",
		"--code", c.Code, "--data", c.Data, "--listen", c.Listen, "--identity", c.Identity, "--topology", c.Topology,
		"--profile", c.Profile, "--calendar", c.Calendar,
		"--intervals-checkpoint", c.Intervals.Checkpoint.String(),
		"--intervals-grace", c.Intervals.Grace.String(),
		"--intervals-skew", c.Intervals.Skew.String(),
		"--intervals-silence", c.Intervals.Silence.String(),
		"--intervals-around", c.Intervals.Around.String(),
		"--intervals-retry", c.Intervals.Retry.String(),
		"--log-level", c.Log.Level, "--log-format", c.Log.Format,
		"--clock-rate", strconv.FormatFloat(c.Clock.Rate, 'f', -1, 64),
		"--clock-epoch", c.Clock.Epoch.Format(time.RFC3339Nano),
		"--clock-base", c.Clock.Base.Format(time.RFC3339Nano),
	}
	if c.Parent != "" {
		args = append(args, "--parent", c.Parent)
	}
	for _, a := range c.Ancestors {
		args = append(args, "--ancestors", a)
	}
	for _, d := range c.Divisions {
		args = append(args, "--divisions", d)
	}
	return args
}
