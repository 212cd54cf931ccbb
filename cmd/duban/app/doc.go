// Package app is the only place where a node (节点) is put together, started and stopped. It promises that what New
// returned is whole or nothing: a part that can't start undoes those before it, a part that fails while running brings
// the node down with that part's error, and Close leaves no goroutine, no socket and nothing that is not durable. Several
// nodes may live in one process; they share nothing.
//
// It decides nothing: what may be recorded is decided in node/intake, what is escalated in escalation, who is believed in
// federation. It reads no environment and parses no flag: cmd/duban/settings does.
package app
