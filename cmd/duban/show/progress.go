package show

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mattn/go-isatty"

	"duban.internal/node/clock"
)

// Progress is a line that is written over while long work goes on. On anything but a terminal it writes nothing.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	clock clock.Clock
	last  time.Time
}

// NewProgress makes one on w; w is usually standard error.
func NewProgress(w io.Writer, c clock.Clock) *Progress {
	p := &Progress{clock: c}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		p.w = w
	}
	return p
}

// Say writes the line anew, at most ten times a second.
func (p *Progress) Say(format string, args ...any) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last = now
	fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
}

// Done takes the line away.
func (p *Progress) Done() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
