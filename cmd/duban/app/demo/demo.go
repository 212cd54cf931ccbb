package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/app/fleet"
	"duban.internal/configs"
	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
)

// Options say how the demo is told.
type Options struct {
	Once   bool   // end with the verdict; otherwise the tree keeps running until ctx ends
	JSON   bool   // for programs
	Binary string // runs every node as a process of this program; empty for one process
	Dir    string // for keys and data; empty for a temporary folder, removed at the end
	Omit   string // takes the causes of these stories away, such as "aeg"
	Out    io.Writer
}

// caused says whether a story has its cause.
func (o Options) caused(story string) bool { return !strings.Contains(o.Omit, story) }

// ErrVerdict says that a story did not end as it should.
var ErrVerdict = errors.New("not every story ended as it should")

// The clock: 16 hours of the tree in a second. It begins on a Monday morning in Shanghai, long enough before the first story
// for the nodes to start. Real times are short in this clock, so the intervals are long.
const (
	rate        = 57_600
	checkpoint  = time.Hour
	grace       = 24 * time.Hour
	skew        = 12 * time.Hour // less than a second here
	silence     = 60 * time.Hour
	around      = 48 * time.Hour
	retry       = time.Second     // real
	lateness    = 120 * time.Hour // how late a level may open on a busy machine: seven seconds of it
	startup     = 4 * 24 * time.Hour
	patience    = 24 * 24 * time.Hour // of the tree's time: the stories are over by then, or failed
	profileName = "tianjin"
)

var base = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC).Add(-startup)

// Run tells the stories. With Once it returns nil if and only if all ended as they should, otherwise ErrVerdict.
func Run(ctx context.Context, o Options) (err error) {
	dir, cleanup, err := workDir(o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()

	d, err := start(ctx, o, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()

	verdict, err := d.tell(ctx)
	if err != nil {
		return err
	}
	if err := d.say.verdict(verdict); err != nil {
		return err
	}
	if !o.Once {
		if err := d.fleet.Restart(ctx, d.gone); err != nil {
			return err
		}
		d.say.invitation(d)
		<-ctx.Done()
		return nil
	}
	if !verdict.Passed {
		return ErrVerdict
	}
	return nil
}

// demo is the running tree with its cast.
type demo struct {
	*cast
	options Options
	dir     string
	fleet   *fleet.Fleet
	clock   clock.Scaled
	links   links
	say     *narrator
	names   *jurisdiction.Tree
}

func workDir(dir string) (string, func() error, error) {
	if dir != "" {
		return dir, func() error { return nil }, os.MkdirAll(dir, 0o755)
	}
	dir, err := os.MkdirTemp("", "duban-demo-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// start puts the tree up and registers who acts in it.
func start(ctx context.Context, o Options, dir string) (*demo, error) {
	file, err := configs.FS.Open("divisions/divisions.csv")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	divisions, err := jurisdiction.Load(file)
	if err != nil {
		return nil, err
	}
	rules, err := profile.Load(configs.FS, "profiles/"+profileName)
	if err != nil {
		return nil, err
	}
	c, err := newCast(divisions)
	if err != nil {
		return nil, err
	}
	d := &demo{
		cast: c, options: o, dir: dir, names: divisions,
		clock: clock.Scaled{Epoch: clock.System().Now(), Base: base, Rate: rate},
		say:   newNarrator(o.Out, o.JSON, divisions, rules),
	}
	d.say.intro(c, rate, o.Binary != "")
	d.fleet, err = fleet.Start(ctx, fleet.Spec{
		Dir: filepath.Join(dir, "tree"), City: city, Members: c.members, Clients: c.clients, Clock: d.clock,
		Binary: o.Binary, Lines: []jurisdiction.Code{c.cut},
		Configure: func(node *app.Config) {
			node.Intervals = app.Intervals{Checkpoint: checkpoint, Grace: grace, Skew: skew, Silence: silence, Around: around, Retry: retry}
			node.Patch.Mute = node.Code == string(c.mute) && o.caused("i")
			node.Profile = profileName
		},
	})
	if err != nil {
		return nil, err
	}
	d.links = links{fleet: d.fleet}
	if err := d.register(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *demo) close() error { return errors.Join(d.links.close(), d.fleet.Close()) }

// tell lets all stories happen at once, waits for their ends and asks the nodes how they ended.
func (d *demo) tell(ctx context.Context) (*Verdict, error) {
	deadline := d.clock.Now().Add(patience)
	g, gctx := errgroup.WithContext(ctx)
	watching, stopWatching := context.WithCancel(gctx)
	g.Go(func() error { return d.narrate(watching) })
	g.Go(func() error {
		defer stopWatching()
		stories, wctx := errgroup.WithContext(gctx)
		for _, s := range d.stories() {
			stories.Go(func() error {
				if err := s.play(wctx, d.options.caused(s.name), deadline); err != nil {
					return fmt.Errorf("story (%s): %w", s.name, err)
				}
				return nil
			})
		}
		return stories.Wait()
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return d.judge(ctx)
}
