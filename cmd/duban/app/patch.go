package app

import (
	"slices"
)

// Patch is what a dishonest operator might change in the program. The demonstration patches a node to show what the nodes
// above it do about that; there is no setting for it, and a node that goes by the machine's clock refuses to start with one.
type Patch struct {
	Mute bool // raises no alerts
}

// muted is the environment variable by which the demonstration patches a process.
const muted = "DEMO_PATCH=mute"

// Environ says the patch as PatchOf reads it.
func (p Patch) Environ() []string {
	if p.Mute {
		return []string{muted}
	}
	return nil
}

// PatchOf reads a patch from an environment.
func PatchOf(environ []string) Patch { return Patch{Mute: slices.Contains(environ, muted)} }

// allowed refuses a patch outside of the demonstration's fast clock.
func (p Patch) allowed(c Config) error {
	if p != (Patch{}) && c.Clock.Rate == 0 {
		return refused("patch", "a patched node runs by a demonstration's fast clock only: unset DEMO_PATCH")
	}
	return nil
}
