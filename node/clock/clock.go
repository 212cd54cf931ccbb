// Package clock is the only place where the program asks what time it is.
//
// Everything else is given a Clock. Three exist: System, Scaled (the demo's fast clock, the same in every process
// that is given the same epoch and rate) and Manual (tests). Stored times are microseconds of UTC; see Micros.
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock tells the time of the node.
type Clock interface {
	// Now is the present, in UTC, at microsecond precision.
	Now() time.Time
	// Timer fires once after d of this clock's time.
	Timer(d time.Duration) Timer
	// Patience fires once after d as people and networks feel it: for retry pauses and for waiting on others. On a
	// fast clock it is d of real time.
	Patience(d time.Duration) Timer
	// Steady is how much of this clock's time has passed since the process began, by a counter that nobody can set:
	// Now may jump, Steady never does. What it begins with means nothing.
	Steady() time.Duration
}

// Timer fires once.
type Timer struct {
	// C receives when the time is up.
	C <-chan time.Time
	// Stop releases the timer; it may be called at any time, more than once.
	Stop func()
}

// Micros is t as microseconds since 1970 in UTC, the form in which times are stored.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time is the time of stored microseconds.
func Time(us int64) time.Time { return time.UnixMicro(us).UTC() }

// Sleep waits d of c's time, or until ctx ends; it returns ctx's error then.
func Sleep(ctx context.Context, c Clock, d time.Duration) error { return wait(ctx, c.Timer(d)) }

// Pause waits d of patience, or until ctx ends; it returns ctx's error then.
func Pause(ctx context.Context, c Clock, d time.Duration) error { return wait(ctx, c.Patience(d)) }

func wait(ctx context.Context, t Timer) error {
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func realTimer(d time.Duration) Timer {
	t := time.NewTimer(d)
	return Timer{C: t.C, Stop: func() { t.Stop() }}
}

type system struct{}

// System is the machine's clock.
func System() Clock { return system{} }

func (system) Now() time.Time                 { return time.Now().UTC().Truncate(time.Microsecond) }
func (system) Timer(d time.Duration) Timer    { return realTimer(d) }
func (system) Patience(d time.Duration) Timer { return realTimer(d) }
func (system) Steady() time.Duration          { return time.Since(began) }

// began has a reading of the machine's monotonic counter.
var began = time.Now()

// Scaled runs Rate times as fast as the machine's clock: at Epoch of real time it shows Base.
type Scaled struct {
	Epoch time.Time // real time at which the clock shows Base
	Base  time.Time // what it shows then
	Rate  float64   // its seconds per real second; above 0
}

// Now is the scaled present.
func (s Scaled) Now() time.Time {
	passed := float64(time.Since(s.Epoch)) * s.Rate
	return s.Base.Add(time.Duration(passed)).UTC().Truncate(time.Microsecond)
}

// Timer fires after d of scaled time.
func (s Scaled) Timer(d time.Duration) Timer { return realTimer(time.Duration(float64(d) / s.Rate)) }

// Patience fires after d of real time.
func (s Scaled) Patience(d time.Duration) Timer { return realTimer(d) }

// Steady is the machine's counter, scaled.
func (s Scaled) Steady() time.Duration { return time.Duration(float64(time.Since(began)) * s.Rate) }

// Offset is another clock put ahead of (or, negative, behind) by D.
type Offset struct {
	Clock
	D time.Duration
}

// Now is the offset present.
func (o Offset) Now() time.Time { return o.Clock.Now().Add(o.D) }

// Manual stands still until it is set: the clock of tests and of the simulator.
type Manual struct {
	mu     sync.Mutex
	now    time.Time
	steady time.Duration
	timers []*manualTimer
}

type manualTimer struct {
	at time.Time
	c  chan time.Time
}

// NewManual is a clock that shows start.
func NewManual(start time.Time) *Manual { return &Manual{now: start.UTC().Truncate(time.Microsecond)} }

// Now is the time last set.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Advance moves the clock by d and fires what became due.
func (m *Manual) Advance(d time.Duration) { m.Set(m.Now().Add(d)) }

// Set moves the clock to t and fires what became due.
func (m *Manual) Set(t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t = t.UTC().Truncate(time.Microsecond)
	m.steady += t.Sub(m.now)
	m.now = t
	waiting := m.timers[:0]
	for _, timer := range m.timers {
		if timer.at.After(m.now) {
			waiting = append(waiting, timer)
			continue
		}
		timer.c <- m.now
	}
	clear(m.timers[len(waiting):])
	m.timers = waiting
}

// Steady is how far the clock has been moved.
func (m *Manual) Steady() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.steady
}

// Jump sets what the clock shows ahead by d, or back, without letting time pass: a clock that somebody turned.
func (m *Manual) Jump(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
	for _, t := range m.timers {
		t.at = t.at.Add(d)
	}
}

// Timer fires when the clock has been moved by d.
func (m *Manual) Timer(d time.Duration) Timer {
	m.mu.Lock()
	defer m.mu.Unlock()
	timer := &manualTimer{at: m.now.Add(d), c: make(chan time.Time, 1)}
	if d <= 0 {
		timer.c <- m.now
	} else {
		m.timers = append(m.timers, timer)
	}
	return Timer{C: timer.c, Stop: func() { m.drop(timer) }}
}

// Patience is Timer.
func (m *Manual) Patience(d time.Duration) Timer { return m.Timer(d) }

func (m *Manual) drop(timer *manualTimer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, t := range m.timers {
		if t == timer {
			m.timers = append(m.timers[:i], m.timers[i+1:]...)
			return
		}
	}
}
