// Package memory is an engine of node/store in maps, for the simulator and for tests of what stands on a store.
//
// What it promises: the whole contract of node/store but for SQL (View refuses with fault.Unsupported), without a
// goroutine, a file or a clock of its own, and the same for the same calls. A Disk outlives the Stores that are opened
// over it. What was not synced is lost by Crash, as it would be by a machine that loses power: entries, rows, cursors,
// keys and stamps, back to exactly the state of the last Sync. A driver that is honest answers nobody about a command
// before Sync; see Dirty.
//
// What it doesn't do: it makes nothing durable, bounds no memory, and copies no slice: what goes in and what comes out is
// not to be changed.
package memory
