package clock_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"duban.internal/node/clock"
)

const (
	second = int64(1_000_000)
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
	start  = 20_000 * day
)

// step is one reading, relative to start, and a word of the alarm that has to come; empty for none.
type step struct {
	now, steady, record, heard, parent int64
	says                               string
	expected                           int64 // of the alarm; not looked at where 0
	accept                             bool
}

func (s step) reading() clock.Reading {
	r := clock.Reading{Now: start + s.now, Steady: s.steady, Parent: s.parent}
	if s.record != 0 {
		r.Record = start + s.record
	}
	if s.heard != 0 {
		r.Heard = start + s.heard
	}
	return r
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		accepted clock.Accepted
		steps    []step
	}{
		"goes on": {steps: []step{
			{steady: 5}, {now: minute, steady: 5 + minute, record: 30 * second}, {now: day, steady: 5 + day + minute, heard: day - minute, parent: -minute},
		}},
		"jumps ahead, is put right": {steps: []step{
			{}, {now: day + minute, steady: minute, says: "jumped ahead by 24h0m0s", expected: start + minute}, {now: 2*minute - 50*second, steady: 2 * minute},
		}},
		"jumps back, is put right": {steps: []step{
			{}, {now: -hour, steady: minute, says: "jumped back by 1h1m0s", expected: start + minute}, {now: 3 * minute, steady: 2 * minute},
		}},
		"creeps away by less at a time": {steps: []step{
			{}, {now: 50 * second, steady: 0}, {now: 100 * second, steady: 0, says: "jumped ahead by 1m40s"},
		}},
		"jumps ahead, and the parent's shows the same afterwards": {steps: []step{
			{heard: 1, parent: day}, // a clock that is behind is believed
			{now: day + minute, steady: minute, heard: 1, parent: day},
			{now: day + hour, steady: hour, heard: day + hour - 1, parent: 2 * second},
		}},
		"an exchange before a jump says nothing": {steps: []step{
			{}, {now: day + minute, steady: minute, heard: 30 * second, parent: 0, says: "jumped ahead"},
			{now: day + 2*minute, steady: 2 * minute, heard: 30 * second, parent: 0, says: "jumped ahead"},
			{now: day + 3*minute, steady: 3 * minute, heard: day + 3*minute, parent: -day, says: "runs 24h0m0s ahead of the parent's", expected: start + 3*minute},
			{now: 4 * minute, steady: 4 * minute, heard: day + 3*minute, parent: -day},
		}},
		"a jump that the parent's clock confirms": {steps: []step{
			{}, {now: day, steady: minute, says: "jumped ahead"}, {now: day + minute, steady: 2 * minute, heard: day + minute, parent: minute},
			{now: day + hour, steady: hour + minute},
		}},
		"runs ahead of the parent's from the start": {steps: []step{
			{heard: 1, parent: -minute}, {now: minute, steady: minute, heard: minute, parent: -minute - second, says: "runs 1m1s ahead"},
			{now: hour, steady: hour, heard: minute, parent: -minute - second, says: "runs 1m1s ahead"},
			{now: hour, steady: hour, heard: hour, parent: -30 * second},
		}},
		"was turned back while the node was down": {steps: []step{
			{record: minute}, {record: minute + second, says: "there is a record of", expected: start + minute + second}, {now: second, steady: second, record: minute + second},
		}},
		"was turned back, and people accept it": {steps: []step{
			{record: day, says: "turned back", accept: true},
			{now: hour, steady: hour, record: day},
			{now: hour, steady: hour, record: day + second, says: "turned back"},
			{now: -2 * minute, steady: hour, record: day, says: "turned back"},
		}},
		"people had accepted it before the start": {accepted: clock.Accepted{Expected: start + day, Shown: start}, steps: []step{
			{now: minute, record: day}, {now: minute, record: day + minute + second, says: "turned back"},
		}},
		"turned back further than was accepted": {accepted: clock.Accepted{Expected: start + day, Shown: start}, steps: []step{
			{now: -hour, record: day, says: "turned back"},
		}},
		"runs ahead, and people accept that": {steps: []step{
			{heard: 1, parent: -hour, says: "runs 1h0m0s ahead", accept: true},
			{now: minute, steady: minute, heard: minute, parent: -hour - 59*second},
			{now: hour, steady: hour, heard: hour, parent: -hour - 61*second, says: "ahead"},
			{now: hour, steady: hour, heard: hour, parent: -hour - 61*second, says: "ahead"},
			{now: 2 * minute, steady: hour + 3*minute, heard: hour, parent: -hour - 61*second}, // put right: no more is accepted
			{now: day, steady: day + hour + minute, heard: day, parent: -2 * minute, says: "runs 2m0s ahead"},
		}},
		"jumps and people accept that": {steps: []step{
			{}, {now: day, steady: minute, says: "jumped", accept: true}, {now: day + minute, steady: 2 * minute},
			{now: day + minute, steady: hour, says: "jumped back"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := clock.Standing{Accepted: c.accepted}
			for i, step := range c.steps {
				var alarm *clock.Alarm
				s, alarm = clock.Judge(s, step.reading(), time.Minute)
				switch {
				case step.says == "" && alarm != nil:
					t.Fatalf("step %d: %s", i, alarm.Reason)
				case step.says != "" && (alarm == nil || !strings.Contains(alarm.Reason, step.says)):
					t.Fatalf("step %d: %+v, want %q", i, alarm, step.says)
				case step.expected != 0 && alarm.Expected != step.expected:
					t.Fatalf("step %d: expected %d, want %d", i, alarm.Expected, step.expected)
				case alarm != nil && alarm.Shown != step.reading().Now:
					t.Fatalf("step %d: shown %d", i, alarm.Shown)
				}
				if step.accept {
					s = clock.Accept(s, step.reading(), *alarm)
				}
			}
		})
	}
}

func TestGuardAcceptsOnRecordOnly(t *testing.T) {
	m := clock.NewManual(clock.Time(start))
	g := clock.NewGuard(time.Minute, clock.Accepted{})
	record := start
	read := func() clock.Reading {
		return clock.Reading{Now: clock.Micros(m.Now()), Steady: m.Steady().Microseconds(), Record: record}
	}
	if a := g.Look(read); a != nil {
		t.Fatal(a.Reason)
	}
	nothing := errors.New("nothing to accept")
	if err := g.Accept(read, func(a *clock.Alarm) (int64, error) {
		if a != nil {
			t.Fatal(a.Reason)
		}
		return 0, nothing
	}); !errors.Is(err, nothing) {
		t.Fatal(err)
	}
	m.Advance(time.Hour)
	record = clock.Micros(m.Now())
	m.Jump(-24 * time.Hour)
	full := errors.New("disk full")
	if err := g.Accept(read, func(*clock.Alarm) (int64, error) { return 0, full }); !errors.Is(err, full) {
		t.Fatal(err)
	}
	if g.Look(read) == nil {
		t.Fatal("believed though nothing is on record")
	}
	// The entry itself bears the latest time that the store promised.
	if err := g.Accept(read, func(*clock.Alarm) (int64, error) { record += second; return record, nil }); err != nil {
		t.Fatal(err)
	}
	if a := g.Look(read); a != nil {
		t.Fatal(a.Reason)
	}
}

func TestSteady(t *testing.T) {
	base := clock.Time(start)
	for name, c := range map[string]clock.Clock{
		"system": clock.System(), "scaled": clock.Scaled{Epoch: clock.System().Now(), Base: base, Rate: 1000}, "offset": clock.Offset{Clock: clock.System(), D: -time.Hour},
	} {
		before := c.Steady()
		<-c.Patience(2 * time.Millisecond).C
		passed, least := c.Steady()-before, 2*time.Millisecond
		if name == "scaled" {
			least *= 1000
		}
		if passed < least {
			t.Errorf("%s: %v", name, passed)
		}
	}
	m := clock.NewManual(base)
	timer := m.Timer(time.Minute)
	m.Jump(time.Hour)
	if m.Steady() != 0 || !m.Now().Equal(base.Add(time.Hour)) {
		t.Errorf("%v, %v", m.Steady(), m.Now())
	}
	m.Advance(time.Minute)
	select {
	case <-timer.C:
	default:
		t.Error("a jump stopped a timer")
	}
	if m.Steady() != time.Minute {
		t.Error(m.Steady())
	}
}
