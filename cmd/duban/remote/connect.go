// Package remote holds the commands that talk to a running node: cases, alerts, base information, status, import. They are
// clients like any other: what they may do is decided by the certificate that they show.
package remote

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"google.golang.org/grpc"

	"duban.internal/cmd/duban/exit"
	"duban.internal/cmd/duban/settings"
	"duban.internal/cmd/duban/show"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/rpc"
)

// Commands are those of the package.
func Commands() []*cobra.Command {
	return []*cobra.Command{cases(), alerts(), agencies(), officers(), offices(), status(), clocks(), journals(), imports()}
}

// connectFlags adds how to reach a node.
func connectFlags(set *pflag.FlagSet) {
	set.String("node", "127.0.0.1:7443", "address of the node (DUBAN_NODE)")
	set.String("identity", "", "folder with certificate, key and ca.crt, as duban keygen wrote it (DUBAN_IDENTITY)")
	set.String("cert", "", "certificate to show, instead of the folder's (DUBAN_CERT)")
	set.String("key", "", "its private key, instead of the folder's (DUBAN_KEY)")
	set.String("ca", "", "certificate of the tree's authority, instead of the folder's (DUBAN_CA)")
	set.Duration("timeout", 10*time.Second, "how long to wait for the node; an upload, an import or a watch waits as long as it goes on (DUBAN_TIMEOUT)")
}

// talk is a command's connection to a node.
type talk struct {
	cmd     *cobra.Command
	conn    *grpc.ClientConn
	timeout time.Duration
	json    bool

	request string   // id of the request that records something; empty for those that only ask
	again   []string // flags that a repeated request needs beside it, to be the same
}

// withNode makes a command that asks a node.
func withNode(c *cobra.Command, run func(t *talk, args []string) error) *cobra.Command {
	connectFlags(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := connect(cmd)
		if err != nil {
			return err
		}
		defer t.conn.Close()
		return run(t, args)
	}
	return c
}

func connect(cmd *cobra.Command) (*talk, error) {
	v := viper.New()
	v.SetEnvPrefix("DUBAN")
	for _, k := range settings.ClientKeys {
		if err := errors.Join(v.BindEnv(k), v.BindPFlag(k, cmd.Flags().Lookup(k))); err != nil {
			return nil, err
		}
	}
	files, err := files(v.GetString("identity"), v.GetString("cert"), v.GetString("key"), v.GetString("ca"))
	if err != nil {
		return nil, err
	}
	pair, err := files.Load()
	if err == nil {
		err = pair.Check(clock.System().Now())
	}
	if err != nil {
		return nil, err
	}
	conn, err := rpc.Dial(v.GetString("node"), pair.Client(identity.Identity{}))
	if err != nil {
		return nil, fault.Refuse(fault.Invalid, "the node can't be asked", fault.Field{Field: "--node", Description: err.Error()})
	}
	asked, err := cmd.Flags().GetBool("json")
	if err != nil {
		return nil, err
	}
	timeout := v.GetDuration("timeout")
	if timeout <= 0 {
		return nil, fault.Refuse(fault.Invalid, "the node can't be asked", fault.Field{Field: "--timeout", Description: "expected a time such as 10s"})
	}
	return &talk{cmd: cmd, conn: conn, timeout: timeout, json: asked}, nil
}

// files finds the TLS files: those named, else the folder's, which may be a client's or a node's.
func files(folder, cert, key, ca string) (identity.Files, error) {
	var f identity.Files
	if folder != "" {
		f = topology.ClientFiles(folder)
		if _, err := os.Stat(filepath.Join(folder, "node.crt")); err == nil {
			f = topology.NodeFiles(folder)
		}
	}
	for _, named := range []struct {
		to   *string
		from string
	}{{&f.Cert, cert}, {&f.Key, key}, {&f.CA, ca}} {
		if named.from != "" {
			*named.to = named.from
		}
	}
	if f.Cert == "" || f.Key == "" || f.CA == "" {
		return f, fault.Refuse(fault.Invalid, "a node answers only those it knows", fault.Field{Field: "--identity",
			Description: "expected a folder that duban keygen wrote, such as keys/clients/operator-120000, or --cert, --key and --ca"})
	}
	return f, nil
}

// call runs one request within the timeout.
func call[Q, A any](t *talk, method func(context.Context, Q, ...grpc.CallOption) (A, error), request Q) (A, error) {
	ctx, cancel := context.WithTimeout(t.cmd.Context(), t.timeout)
	defer cancel()
	answer, err := method(ctx, request)
	return answer, exit.Remote(t.said(err))
}

// print writes JSON or what people writes.
func (t *talk) print(v any, people func() error) error {
	if t.json {
		return show.JSON(t.cmd.OutOrStdout(), v)
	}
	return people()
}

// text is a string flag.
func (t *talk) text(name string) string {
	v, err := t.cmd.Flags().GetString(name)
	if err != nil {
		panic(err) // the flag is not the command's: a defect
	}
	return v
}

func (t *talk) yes(name string) bool {
	v, err := t.cmd.Flags().GetBool(name)
	if err != nil {
		panic(err)
	}
	return v
}

func (t *talk) list(name string) []string {
	v, err := t.cmd.Flags().GetStringArray(name)
	if err != nil {
		panic(err)
	}
	return v
}

// pairs reads a flag given as NAME=VALUE, several times.
func (t *talk) pairs(name string) (map[string]string, error) {
	out := map[string]string{}
	var wrong fault.List
	for _, p := range t.list(name) {
		k, v, ok := strings.Cut(p, "=")
		if _, twice := out[k]; !ok || k == "" || twice {
			wrong.Add("--"+name, "%q: expected NAME=VALUE, each name once", p)
			continue
		}
		out[k] = v
	}
	return out, wrong.Err(fault.Invalid, "flags")
}

// times are the forms in which people may give one; without a zone it is Shanghai's.
var times = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02"}

// micros reads a flag that is a time; 0 where it was not given.
func (t *talk) micros(name string) (int64, error) {
	text := t.text(name)
	if text == "" {
		return 0, nil
	}
	for _, layout := range times {
		if at, err := time.ParseInLocation(layout, text, show.Shanghai); err == nil {
			return clock.Micros(at), nil
		}
	}
	return 0, fault.Refuse(fault.Invalid, "flags", fault.Field{Field: "--" + name,
		Description: "\"" + text + "\": expected 2026-03-02, 2026-03-02 15:04 (Asia/Shanghai) or 2026-03-02T15:04:05+08:00"})
}

// group makes a command that only holds others.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long}
	c.AddCommand(commands...)
	var examples []string
	for _, sub := range commands {
		examples = append(examples, first(sub.Example, "  duban "+use+" "+sub.Name()+" "))
	}
	c.Example = strings.Join(examples, "\n")
	return c
}

// first is the first command of an example that begins so, with the lines that go on.
func first(example, begin string) string {
	var out []string
	for line := range strings.SplitSeq(example, "\n") {
		if len(out) == 0 && !strings.HasPrefix(line, begin) {
			continue
		}
		out = append(out, line)
		if !strings.HasSuffix(line, "\\") {
			break
		}
	}
	return strings.Join(out, "\n")
}
