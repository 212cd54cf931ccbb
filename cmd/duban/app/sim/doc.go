// Package sim puts a city's tree under one seeded scheduler in virtual time: the real intake, folds, runner and both ends
// of the sync, over stores in memory and a network that loses, delays, repeats, reorders and cuts; nodes crash and lose
// what was not synced, clocks jump, streets stay away for weeks.
//
// What it promises: one seed is one history, to the last byte of its trace, on any machine; after every step the
// invariants are looked at (see watch.go), and at the end of a history those that only rest can show (see final.go); what
// fails is shown with its seed, step, invariant and the last events before it.
//
// What it doesn't do: it runs no goroutine of the drivers, no gRPC, no TLS, no file: the demo, the kill tests and the tests
// of each driver do. Its network hands messages over as values. Intervals are its own (see plan.go), for two weeks have to
// pass in a fraction of a second: checkpoints are hours apart and patience is counted in minutes.
package sim
