package app

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"duban.internal/node/clock"
	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
)

// Config is everything that a node is told. The tag `key` is the name of a setting in a configuration file, `help` its
// explanation; cmd/duban/settings reads them. A zero Config with Code, Data and Identity is completed by WithDefaults.
type Config struct {
	Code      string   `key:"code" help:"jurisdiction code of this node (GB/T 2260): 6 digits for a city or district, 9 for a street"`
	Data      string   `key:"data" help:"folder that holds everything this node stores; made where it is not there"`
	Listen    string   `key:"listen" help:"address for gRPC with mutual TLS; port 0 takes a free one"`
	Parent    string   `key:"parent" help:"address of the parent's node; empty for a city"`
	Ancestors []string `key:"ancestors" help:"nodes above the parent, as CODE=HOST:PORT: dialed when one was not heard through the parent for intervals.around; left out: the topology's addresses"`
	Identity  string   `key:"identity" help:"folder with this node's keys and certificates, as duban keygen wrote it"`
	Topology  string   `key:"topology" help:"file that lists the nodes of the tree and their journal keys, as duban keygen wrote it"`
	Profile   string   `key:"profile" help:"regulation as data: a shipped profile's name, or a folder"`
	Calendar  string   `key:"calendar" help:"official calendar: a shipped one's name, or a file"`
	Divisions []string `key:"divisions" help:"divisions: shipped lists' names, or files; together they are the tree"`
	History   bool     `key:"history" help:"true for a node of imported history only: a calendar that ended long ago is no error"`

	Intervals   Intervals   `key:"intervals"`
	Sync        Sync        `key:"sync"`
	Store       Store       `key:"store"`
	Attachments Attachments `key:"attachments"`
	Metrics     Metrics     `key:"metrics"`
	Log         Log         `key:"log"`
	Clock       Clock       `key:"clock"`

	// Patch is what the demonstration changes in a node; the zero value is a node as it should be.
	Patch Patch `key:"-"`
	// Time is the node's clock where the caller has one; it goes before Clock.
	Time clock.Clock `key:"-"`
	// Logger takes the node's log where the caller has one; it goes before Log.
	Logger *slog.Logger `key:"-"`
}

// Intervals are the times that a node waits, in its own clock.
type Intervals struct {
	Checkpoint time.Duration `key:"checkpoint" help:"an idle node tells its parent its time and size so often"`
	Grace      time.Duration `key:"grace" help:"how long after a due time the word of a child that is silent is waited for"`
	Skew       time.Duration `key:"skew" help:"how far this node's clock may jump, or run ahead of its parent's, before it records nothing more"`
	Silence    time.Duration `key:"silence" help:"a child that was not heard for so long is silent, which is itself an alert"`
	Around     time.Duration `key:"around" help:"an ancestor whose witness did not come through the parent for so long is dialed itself"`
	Retry      time.Duration `key:"retry" help:"longest pause, in real time, before a node above that can't be reached is dialed again"`
}

// Sync bounds what children may send before it is acknowledged.
type Sync struct {
	Window Size `key:"window" help:"bytes that one child may have sent and not yet acknowledged; 0 for an even share of sync.memory"`
	Memory Size `key:"memory" help:"bytes that all children together may have sent and not yet acknowledged"`
}

// Store bounds the store.
type Store struct {
	Segment Size `key:"segment" help:"a file of the journal is closed at this size"`
	Marker  Size `key:"marker" help:"so much of the write-ahead log is kept before it is trimmed"`
}

// Attachments bounds evidence and documents.
type Attachments struct {
	Max Size `key:"max" help:"largest attachment"`
}

// Metrics are the pages for machines that watch the node.
type Metrics struct {
	Listen string `key:"listen" help:"address of /metrics, /healthz and /readyz over HTTP without TLS; empty for none"`
}

// Log is what the node tells its operator.
type Log struct {
	Level  string `key:"level" help:"least level that is logged: debug, info, warn or error"`
	Format string `key:"format" help:"text for people, json for programs"`
}

// Clock is a fast clock for demonstrations, the same in every process that has the same three values. Where Rate is 0
// the node goes by the machine's clock.
type Clock struct {
	Rate  float64   `key:"rate" help:"demonstrations only: seconds of the node's clock in one real second; 0 for the machine's clock"`
	Epoch time.Time `key:"epoch" help:"demonstrations only: real time (RFC 3339) at which the node's clock shows base"`
	Base  time.Time `key:"base" help:"demonstrations only: what the node's clock shows at epoch (RFC 3339)"`
}

// Size is a number of bytes.
type Size int64

// Units of Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// UnmarshalText reads 512, 64KiB, 64MiB or 1GiB.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), Size(1)
	for suffix, u := range map[string]Size{"KiB": KiB, "MiB": MiB, "GiB": GiB} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = strings.TrimSpace(rest), u
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > int64(1<<62/unit) {
		return fmt.Errorf("%.40q: expected a size such as 512, 64KiB, 64MiB or 1GiB", text)
	}
	*s = Size(n) * unit
	return nil
}

// String is the shortest form that UnmarshalText reads.
func (s Size) String() string {
	switch {
	case s >= GiB && s%GiB == 0:
		return fmt.Sprintf("%dGiB", s/GiB)
	case s >= MiB && s%MiB == 0:
		return fmt.Sprintf("%dMiB", s/MiB)
	case s >= KiB && s%KiB == 0:
		return fmt.Sprintf("%dKiB", s/KiB)
	}
	return strconv.FormatInt(int64(s), 10)
}

// Bounds of settings. A checkpoint that is rarer than an hour would let no silent child be noticed.
const (
	leastInterval = time.Millisecond
	mostInterval  = time.Hour
	leastRetry    = 100 * time.Millisecond
	mostWait      = 24 * mostInterval      // for a child's word, and between clocks
	mostSilence   = 30 * 24 * mostInterval // of a child or an ancestor
	leastSegment  = MiB
	mostSegment   = 4 * GiB
	leastMax      = 200 * MiB // evidence of that size has to be taken
	leastWindow   = 64 * KiB
	mostWindow    = GiB
	leastMemory   = 16 * MiB // one message and room for others
	mostMemory    = 64 * GiB
)

// WithDefaults fills in what was left out.
func (c Config) WithDefaults() Config {
	fill(&c.Listen, "127.0.0.1:7443")
	fill(&c.Profile, "tianjin")
	fill(&c.Calendar, "cn-holidays")
	if len(c.Divisions) == 0 {
		c.Divisions = []string{"divisions"}
	}
	if c.Topology == "" && c.Identity != "" {
		c.Topology = filepath.Join(filepath.Dir(filepath.Clean(c.Identity)), "topology.yaml")
	}
	fill(&c.Intervals.Checkpoint, 30*time.Second)
	fill(&c.Intervals.Grace, 10*time.Minute)
	fill(&c.Intervals.Skew, 60*time.Second)
	fill(&c.Intervals.Silence, 5*time.Minute)
	fill(&c.Intervals.Around, 15*time.Minute)
	fill(&c.Intervals.Retry, 30*time.Second)
	fill(&c.Sync.Memory, 256*MiB)
	fill(&c.Store.Segment, 64*MiB)
	fill(&c.Store.Marker, 64*MiB)
	fill(&c.Attachments.Max, GiB)
	fill(&c.Log.Level, "info")
	fill(&c.Log.Format, "text")
	return c
}

func fill[T comparable](v *T, byDefault T) {
	var zero T
	if *v == zero {
		*v = byDefault
	}
}

// Validate names everything that is wrong, by the paths that a configuration file has. It opens no file.
func (c Config) Validate() error {
	var l fault.List
	if c.Code == "" {
		l.Add("code", "is missing: expected a jurisdiction code, 6 digits for a city or district, 9 for a street")
	} else if _, err := jurisdiction.ParseCode(c.Code); err != nil {
		l.Add("code", "%v", err)
	}
	need(&l, "data", c.Data, "a folder")
	need(&l, "identity", c.Identity, "the folder of keys that duban keygen wrote for this node")
	address(&l, "listen", c.Listen)
	if c.Parent != "" {
		address(&l, "parent", c.Parent)
	}
	if c.Metrics.Listen != "" {
		address(&l, "metrics.listen", c.Metrics.Listen)
	}
	between(&l, "intervals.checkpoint", c.Intervals.Checkpoint, leastInterval, mostInterval)
	between(&l, "intervals.grace", c.Intervals.Grace, leastInterval, mostWait)
	between(&l, "intervals.skew", c.Intervals.Skew, leastInterval, mostWait)
	// Less would call a child silent, or an ancestor lost, that said all it had to say.
	between(&l, "intervals.silence", c.Intervals.Silence, 2*c.Intervals.Checkpoint, mostSilence)
	between(&l, "intervals.around", c.Intervals.Around, 2*c.Intervals.Checkpoint, mostSilence)
	between(&l, "intervals.retry", c.Intervals.Retry, leastRetry, mostInterval)
	if _, err := c.ancestors(); err != nil {
		l = append(l, fault.Fields(err)...)
	}
	if c.Sync.Window != 0 {
		between(&l, "sync.window", c.Sync.Window, leastWindow, mostWindow)
	}
	between(&l, "sync.memory", c.Sync.Memory, leastMemory, mostMemory)
	between(&l, "store.segment", c.Store.Segment, leastSegment, mostSegment)
	between(&l, "store.marker", c.Store.Marker, leastSegment, mostSegment)
	between(&l, "attachments.max", c.Attachments.Max, leastMax, 1024*GiB)
	if _, ok := levels[c.Log.Level]; !ok {
		l.Add("log.level", "%q: expected debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		l.Add("log.format", "%q: expected text or json", c.Log.Format)
	}
	if c.Clock.Rate < 0 || c.Clock.Rate > 1e7 {
		l.Add("clock.rate", "%v: expected 0 (the machine's clock) or a rate up to 10000000", c.Clock.Rate)
	}
	if c.Clock.Rate > 0 && (c.Clock.Epoch.IsZero() || c.Clock.Base.IsZero()) {
		l.Add("clock", "a fast clock needs rate, epoch and base, all three")
	}
	return l.Err(fault.Invalid, "the configuration can't be used")
}

// ancestor is a node above the parent.
type ancestor struct {
	code    jurisdiction.Code
	address string
}

// ancestors reads the setting of that name.
func (c Config) ancestors() (out []ancestor, err error) {
	var l fault.List
	seen := map[string]bool{}
	for _, text := range c.Ancestors {
		code, at, ok := strings.Cut(text, "=")
		if _, err := jurisdiction.ParseCode(code); !ok || err != nil || seen[code] {
			l.Add("ancestors", "%q: expected CODE=HOST:PORT, each code once", text)
			continue
		}
		address(&l, "ancestors", at)
		seen[code] = true
		out = append(out, ancestor{jurisdiction.Code(code), at})
	}
	return out, l.Err(fault.Invalid, "ancestors")
}

func need(l *fault.List, field, value, what string) {
	if value == "" {
		l.Add(field, "is missing: expected %s", what)
	}
}

func address(l *fault.List, field, value string) {
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		l.Add(field, "%q: expected HOST:PORT", value)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		l.Add(field, "%q: expected a port from 0 to 65535", value)
	}
}

func between[T interface {
	~int64
	fmt.Stringer
}](l *fault.List, field string, v, least, most T) {
	if v < least || v > most {
		l.Add(field, "%s: expected %s to %s", v, least, most)
	}
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// clock is the clock that the node goes by.
func (c Config) clock() clock.Clock {
	switch {
	case c.Time != nil:
		return c.Time
	case c.Clock.Rate > 0:
		return clock.Scaled{Epoch: c.Clock.Epoch, Base: c.Clock.Base, Rate: c.Clock.Rate}
	}
	return clock.System()
}
