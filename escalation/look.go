package escalation

import (
	"context"
	"errors"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// look opens and ends alerts about a child's node, and says when the journal wants to be looked at again: at a deadline,
// at the end of its grace, when silence begins.
func (r *Runner) look(ctx context.Context, info store.Info, p *place, now int64) (at int64, err error) {
	peer := r.cfg.Peer(info.ID)
	grace := r.cfg.Grace.Microseconds()
	later := func(due int64) int64 {
		if due >= never-grace {
			return never
		}
		return max(due, peer.Since) + grace
	}
	at = min(p.next, later(p.derived))
	if p.next <= now {
		at = min(later(p.next), later(p.derived))
	}
	begins, err := r.silence(ctx, info.ID, p, peer, now)
	if err != nil {
		return never, err
	}
	at = min(at, begins)
	if info.Stopped != "" {
		return at, r.happens(ctx, info.ID, p, stopped, now, now)
	}
	return at, r.over(ctx, info.ID, p, stopped)
}

// silence opens and ends the alert about a silent child, and says when it would begin to be one.
func (r *Runner) silence(ctx context.Context, id journal.ID, p *place, peer Peer, now int64) (begins int64, err error) {
	if r.cfg.Silence <= 0 {
		return never, nil
	}
	most := r.cfg.Silence.Microseconds()
	heard := peer.Heard
	if max(heard, peer.Since)+most <= now {
		// Another journal may stand for the child by now.
		var child bool
		if heard, child, err = r.core.Heard(ctx, id); err != nil || !child {
			return never, err
		}
	}
	since := max(heard, peer.Since)
	if since+most <= now {
		return never, r.happens(ctx, id, p, silent, since, now)
	}
	if heard != 0 && heard+most > now {
		err = r.over(ctx, id, p, silent)
	}
	return since + most, err
}

func (r *Runner) happens(ctx context.Context, id journal.ID, p *place, what string, since, now int64) error {
	if p.about[what] {
		return nil
	}
	commands, err := r.core.Happens(ctx, id, what, since, now)
	if err == nil {
		err = r.about(ctx, commands)
	}
	p.about[what] = err == nil
	return err
}

func (r *Runner) over(ctx context.Context, id journal.ID, p *place, what string) error {
	if !p.about[what] {
		return nil
	}
	commands, err := r.core.Over(ctx, id, what)
	if err == nil {
		err = r.about(ctx, commands)
	}
	p.about[what] = err != nil
	return err
}

func (r *Runner) about(ctx context.Context, commands []store.Command) error {
	if len(commands) == 0 {
		return nil
	}
	_, errs := r.append(ctx, commands)
	for i, err := range errs {
		if err == nil {
			r.committed(commands[i])
		}
	}
	return errors.Join(errs...)
}
