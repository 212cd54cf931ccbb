package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"duban.internal/cmd/duban/show"
	"duban.internal/federation/topology"
	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

const pollEvery = 50 * time.Millisecond // real time: less than an hour of the tree

// narrator tells what happens. For programs it keeps silent until the verdict.
type narrator struct {
	mu        sync.Mutex
	out       io.Writer
	json      bool
	divisions *jurisdiction.Tree
	told      map[string]bool
	zone      *time.Location
	profile   *profile.Profile
}

func newNarrator(out io.Writer, asJSON bool, divisions *jurisdiction.Tree, p *profile.Profile) *narrator {
	// Shanghai has one offset all year; the zone file may be missing.
	return &narrator{out: out, json: asJSON, divisions: divisions, profile: p, told: map[string]bool{},
		zone: time.FixedZone("Asia/Shanghai", 8*60*60)}
}

// role and action are what the profile calls them on screens.
func (n *narrator) role(name string) string {
	if r := n.profile.Role(name); r != nil {
		return r.Title
	}
	return name
}

func (n *narrator) action(name string) string {
	if a := n.profile.Action(name); a != nil {
		return a.Title
	}
	return name
}

func (n *narrator) printf(format string, args ...any) {
	if n.json {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.out, format+"\n", args...)
}

// at tells what happened at a time of the tree.
func (n *narrator) at(t time.Time, story, format string, args ...any) {
	n.printf("%s  (%s) %s", t.In(n.zone).Format("Mon 01-02 15:04"), story, fmt.Sprintf(format, args...))
}

func (n *narrator) intro(c *cast, rate int, processes bool) {
	how := "in one process"
	if processes {
		how = "each a process of its own"
	}
	n.printf("Duban 督办: %s and %d nodes below it, %s. Every case is made up (演示数据).", n.place(city), len(c.members)-1, how)
	n.printf("The clock is fast: one second here is %s of the tree's time (Asia/Shanghai). In that time:", time.Duration(rate)*time.Second)
	n.printf("  checkpoints every %v; grace %v; a clock may stray %v; silent after %v; around a dead parent after %v.", checkpoint, grace, skew, silence, around)
	n.printf("\n(a) a street's case that nobody handles    (e) a street that is cut off, and handles")
	n.printf("(b) one that the district handles          (f) a district that is off")
	n.printf("(c) one that ends at the city's level 2    (g) a street that goes off before a limit ends")
	n.printf("(d) a forged journal                       (h) a street that turns its clock back")
	n.printf("                                           (i) a street patched to raise no alerts\n")
}

func (n *narrator) place(code jurisdiction.Code) string {
	if d, ok := n.divisions.Get(code); ok {
		return d.Name
	}
	return string(code)
}

// narrate tells each level as it appears at the city, until ctx ends.
func (d *demo) narrate(ctx context.Context) error {
	for {
		alerts, err := d.cityAlerts(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for _, a := range alerts {
			d.say.alert(a)
		}
		if err := clock.Pause(ctx, d.clock, pollEvery); err != nil {
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	}
}

func (n *narrator) alert(a *dubanv1.Alert) {
	story := strings.TrimPrefix(a.CaseId, "demo-")
	if a.CaseId == "" {
		story = "*" // of a node, not of a case
	}
	for _, l := range a.Levels {
		if n.first(a.AlertId, l, "opened") {
			n.at(clock.Time(l.OpenedUs), story, "level %d opens at the %s of %s%s, to be handled before %s: %s [%s]",
				l.Level, n.role(l.Role), n.place(jurisdiction.Code(l.Receiver)), n.why(l),
				clock.Time(l.DueUs).In(n.zone).Format("Mon 01-02 15:04"), a.Text, a.Article)
		}
		if l.WithdrawnUs != 0 && n.first(a.AlertId, l, "withdrawn") {
			n.at(clock.Time(l.WithdrawnUs), story, "level %d is withdrawn, as %s", l.Level, strings.ToLower(strings.TrimPrefix(l.Withdrawn.String(), "BASIS_")))
		}
		if l.HandledUs != 0 && n.first(a.AlertId, l, "handled") {
			n.at(clock.Time(l.HandledUs), story, "level %d is handled: %s, %s", l.Level, n.action(l.Action), l.Explanation)
		}
	}
}

// why says how a level opened that did not open because the one below ran out.
func (n *narrator) why(l *dubanv1.AlertLevel) string {
	switch below := n.place(jurisdiction.Code(l.Below)); {
	case l.NotOpenedBelow:
		return ", for " + below + " opened none"
	case l.OnSilence:
		return ", for " + below + " is silent"
	}
	return ""
}

func (n *narrator) first(id string, l *dubanv1.AlertLevel, what string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := fmt.Sprint(id, l.Round, l.Level, what)
	if n.told[key] {
		return false
	}
	n.told[key] = true
	return true
}

// verdict prints how the stories ended.
func (n *narrator) verdict(v *Verdict) error {
	if n.json {
		e := json.NewEncoder(n.out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	n.printf("\nHow it ended, as the nodes' journals and answers say (times Asia/Shanghai):\n")
	t := show.NewTable("story", "alert", "point", "article", "level", "receiver", "opened", "due", "outcome")
	for _, o := range v.Outcomes {
		n.rows(t, o)
	}
	if err := t.Write(n.out); err != nil {
		return err
	}
	n.printf("")
	for _, o := range v.Outcomes {
		mark := "as it should"
		if !o.Passed {
			mark = "NOT as it should: " + strings.Join(o.Problems, "; ")
		}
		n.printf("(%s) %s: %s", o.Story, o.Title, mark)
	}
	return nil
}

func (n *narrator) rows(t *show.Table, o Outcome) {
	if len(o.Levels) == 0 {
		t.Row(o.Story, "", "", "", "", "", "", "", o.Found)
	}
	for i, l := range o.Levels {
		story, id, point, article := "", "", "", ""
		if i == 0 {
			story, id, point, article = o.Story, o.AlertID[:min(8, len(o.AlertID))], o.Point, o.Article
		}
		t.Row(story, id, point, article, l.Level, n.place(jurisdiction.Code(l.Receiver)), n.short(l.openedUs), n.short(l.dueUs), l.outcome())
	}
}

// outcome is how a level stands, with what is remarkable about it.
func (l LevelOutcome) outcome() string {
	switch {
	case l.NotOpenedBelow:
		return l.State + "; level below not opened by " + l.Below
	case l.OnSilence:
		return l.State + "; opened on the silence of " + l.Below
	}
	return l.State
}

func (n *narrator) short(us int64) string {
	if us == 0 {
		return ""
	}
	return clock.Time(us).In(n.zone).Format("01-02 15:04:05")
}

// invitation says how to look around in the tree while it runs.
func (n *narrator) invitation(d *demo) {
	n.printf("\nThe tree goes on running; Ctrl-C ends it.\n")
	t := show.NewTable("node", "code", "address", "as its operator")
	for _, m := range d.fleet.Tree().All() {
		t.Row(m.Name, m.Code, m.Address, topology.ClientFolder(d.fleet.KeyDir(), d.fleet.Operator(m.Code)))
	}
	if !n.json {
		_ = t.Write(n.out)
	}
	m, _ := d.fleet.Tree().Node(city)
	folder := topology.ClientFolder(d.fleet.KeyDir(), officeOf(city))
	n.printf("\nTry: duban alert list --node %s --identity %s", m.Address, folder)
	n.printf("     duban status --node %s --identity %s", m.Address, folder)
}
