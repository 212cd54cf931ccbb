package federationtest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Line is a TCP line between two nodes that can fail: what a node dials instead of the other.
type Line struct {
	Address string
	to      string

	mu    sync.Mutex
	cut   bool
	up    bool // what comes from the dialing side is lost without a word
	down  bool // likewise what comes from the other
	delay time.Duration
	bytes int64
	conns map[net.Conn]bool
}

// NewLine opens a line to an address. It ends with the test.
func NewLine(tb testing.TB, to string) *Line {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &Line{Address: listener.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() { l.carry(c) })
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close() // a second time is nothing
		l.Set(true, false, false, 0)
		done.Wait()
	})
	return l
}

// Set says how the line fails from now on: cut breaks what is open and refuses what is new; up and down lose what goes that
// way without a word; delay holds everything back.
func (l *Line) Set(cut, up, down bool, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.up, l.down, l.delay = cut, up, down, delay
	if cut {
		for c := range l.conns {
			_ = c.Close() // that is the point
		}
	}
}

// Break breaks what is open once.
func (l *Line) Break() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // that is the point
	}
}

// Bytes is how many went either way so far.
func (l *Line) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

func (l *Line) state(up bool, n int) (lost bool, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += int64(n)
	return up && l.up || !up && l.down, l.delay
}

func (l *Line) carry(near net.Conn) {
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		_ = near.Close() // nobody there
		return
	}
	l.mu.Lock()
	l.conns[near], l.conns[far] = true, true
	cut := l.cut
	l.mu.Unlock()
	if cut {
		_, _ = near.Close(), far.Close() // as if nobody were there
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(far, near, true) })
	both.Go(func() { l.copy(near, far, false) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, near)
	delete(l.conns, far)
	l.mu.Unlock()
}

func (l *Line) copy(to, from net.Conn, up bool) {
	defer func() { _, _ = to.Close(), from.Close() }() // whichever is still open
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			lost, delay := l.state(up, n)
			if delay > 0 {
				timer := time.NewTimer(delay)
				<-timer.C
			}
			if !lost {
				if _, err := to.Write(buffer[:n]); err != nil {
					return
				}
			}
		}
		if err != nil {
			return
		}
	}
}
