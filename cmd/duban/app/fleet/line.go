package fleet

import (
	"io"
	"net"
	"sync"
)

// line is a node's way up to one ancestor: a listener that passes bytes on, until it is cut. A cut line takes no call and
// ends those under way; it keeps its address.
type line struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	done  sync.WaitGroup
}

// lay makes a line to an address.
func lay(to string) (*line, error) {
	listener, err := freePort()
	if err != nil {
		return nil, err
	}
	l := &line{listener: listener, to: to, conns: map[net.Conn]bool{}}
	l.done.Go(l.accept)
	return l, nil
}

func (l *line) address() string { return l.listener.Addr().String() }

func (l *line) accept() {
	for {
		down, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.done.Go(func() { l.carry(down) })
	}
}

// carry passes bytes both ways until one end closes or the line is cut.
func (l *line) carry(down net.Conn) {
	if !l.keep(down) {
		return
	}
	defer l.drop(down)
	up, err := net.Dial("tcp", l.to)
	if err != nil || !l.keep(up) {
		return
	}
	defer l.drop(up)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{up, down}, {down, up}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // how a call ends is its two ends' business
			l.drop(way[0])
			l.drop(way[1])
		})
	}
	both.Wait()
}

// keep notes a connection; on a cut line it is closed at once.
func (l *line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		_ = c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

func (l *line) drop(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	_ = c.Close() // a second time is nothing
}

// set cuts the line, or mends it.
func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for c := range l.conns {
		if cut {
			_ = c.Close()
		}
	}
}

func (l *line) close() {
	_ = l.listener.Close()
	l.set(true)
	l.done.Wait()
}
