package demo

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"duban.internal/node/clock"
	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Verdict is how the stories ended, as the nodes tell it.
type Verdict struct {
	Passed   bool      `json:"passed"`
	Outcomes []Outcome `json:"stories"`
}

// Outcome is the end of one story.
type Outcome struct {
	Story    string         `json:"story"`
	Title    string         `json:"title"`
	Passed   bool           `json:"passed"`
	AlertID  string         `json:"alert_id,omitempty"`
	Point    string         `json:"point,omitempty"`
	Article  string         `json:"article,omitempty"`
	Levels   []LevelOutcome `json:"levels,omitempty"`
	Found    string         `json:"found"`              // what was found, for people
	Problems []string       `json:"problems,omitempty"` // what is not as it should be
}

// LevelOutcome is one level of a story's alert. Times are RFC 3339 in UTC.
type LevelOutcome struct {
	Level    uint32 `json:"level"`
	Role     string `json:"role"`
	Receiver string `json:"receiver"`
	Journal  string `json:"journal"`
	Opened   string `json:"opened"`
	Due      string `json:"due"`
	State    string `json:"state"`

	OnSilence      bool   `json:"on_silence,omitempty"`
	NotOpenedBelow bool   `json:"not_opened_below,omitempty"`
	Below          string `json:"below,omitempty"` // the node that was silent, or did not open the level below

	openedUs int64
	dueUs    int64
}

// judge asks the nodes how every story ended.
func (d *demo) judge(ctx context.Context) (*Verdict, error) {
	v := &Verdict{Passed: true}
	for _, s := range d.stories() {
		o, err := s.judge(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("story (%s): %w", s.name, err)
		}
		o.Story, o.Title, o.Passed = s.name, s.title, len(o.Problems) == 0
		v.Passed = v.Passed && o.Passed
		v.Outcomes = append(v.Outcomes, o)
	}
	return v, nil
}

// want is how a level of a story should have ended.
type want struct {
	receiver jurisdiction.Code
	state    dubanv1.LevelState
}

func (d *demo) judgeStreet(ctx context.Context, s story) (Outcome, error) {
	return d.judgeLevels(ctx, s,
		want{d.street, dubanv1.LevelState_LEVEL_STATE_PASSED},
		want{d.district, dubanv1.LevelState_LEVEL_STATE_PASSED},
		want{city, dubanv1.LevelState_LEVEL_STATE_HANDLED})
}

func (d *demo) judgeDistrict(ctx context.Context, s story) (Outcome, error) {
	return d.judgeLevels(ctx, s,
		want{d.district, dubanv1.LevelState_LEVEL_STATE_PASSED},
		want{d.district, dubanv1.LevelState_LEVEL_STATE_HANDLED})
}

func (d *demo) judgeCity(ctx context.Context, s story) (Outcome, error) {
	return d.judgeLevels(ctx, s,
		want{city, dubanv1.LevelState_LEVEL_STATE_PASSED},
		want{city, dubanv1.LevelState_LEVEL_STATE_OVERDUE})
}

// judged is the alert of a story as the city knows it; nil, and a problem, where there is none.
func (d *demo) judged(ctx context.Context, s story) (Outcome, *dubanv1.Alert, error) {
	alert, err := d.alertOf(ctx, s.id)
	if err != nil {
		return Outcome{}, nil, err
	}
	if alert == nil {
		return Outcome{Found: "no alert", Problems: []string{"no alert was opened for case " + s.id}}, nil, nil
	}
	o := Outcome{AlertID: alert.AlertId, Point: alert.Point, Article: alert.Article}
	for _, l := range alert.Levels {
		o.Levels = append(o.Levels, levelOutcome(l))
	}
	o.Found = found(o.Levels)
	return o, alert, nil
}

// judgeLevels compares the levels that the city knows of with those that the story should have.
func (d *demo) judgeLevels(ctx context.Context, s story, wants ...want) (Outcome, error) {
	o, alert, err := d.judged(ctx, s)
	if err != nil || alert == nil {
		return o, err
	}
	if len(alert.Levels) != len(wants) {
		o.problem("%d levels were opened, %d should have been", len(alert.Levels), len(wants))
		return o, nil
	}
	for i, w := range wants {
		l := alert.Levels[i]
		node, _ := d.fleet.Tree().Node(w.receiver)
		switch {
		case l.Round != 1 || l.Level != uint32(i+1):
			o.problem("round %d level %d stands where level %d should", l.Round, l.Level, i+1)
		case l.Receiver != string(w.receiver):
			o.problem("level %d went to %s, it should have gone to %s", l.Level, l.Receiver, w.receiver)
		case string(l.Journal) != string(node.Journal[:]):
			o.problem("level %d stands in journal %x, it should stand in that of %s", l.Level, l.Journal, w.receiver)
		case l.State != w.state:
			o.problem("level %d is %s, it should be %s", l.Level, stateName(l.State), stateName(w.state))
		case i > 0 && l.OpenedUs < alert.Levels[i-1].DueUs:
			o.problem("level %d opened before level %d was due", l.Level, i)
		case i > 0 && l.StartUs != alert.Levels[i-1].DueUs:
			o.problem("level %d counts from another time than the end of level %d", l.Level, i)
		}
	}
	return o, nil
}

func (o *Outcome) problem(format string, args ...any) {
	o.Problems = append(o.Problems, fmt.Sprintf(format, args...))
}

func levelOutcome(l *dubanv1.AlertLevel) LevelOutcome {
	return LevelOutcome{
		Level: l.Level, Role: l.Role, Receiver: l.Receiver, Journal: hex.EncodeToString(l.Journal), State: stateName(l.State),
		Opened: stamp(l.OpenedUs), Due: stamp(l.DueUs),
		OnSilence: l.OnSilence, NotOpenedBelow: l.NotOpenedBelow, Below: l.Below, openedUs: l.OpenedUs, dueUs: l.DueUs,
	}
}

func stamp(us int64) string {
	if us == 0 {
		return ""
	}
	return clock.Time(us).Format("2006-01-02T15:04:05Z07:00")
}

// stateName is a state for people and programs, such as "handled".
func stateName(s dubanv1.LevelState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "LEVEL_STATE_"))
}

func found(levels []LevelOutcome) string {
	parts := make([]string, len(levels))
	for i, l := range levels {
		parts[i] = fmt.Sprintf("level %d %s", l.Level, l.State)
	}
	return strings.Join(parts, ", ")
}
