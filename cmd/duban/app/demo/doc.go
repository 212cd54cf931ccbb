// Package demo brings up a city's tree of nodes and tells nine stories in it, on a fast clock, for a reader to follow:
//
//	(a) a street's case breaks a limit and nobody handles it: level 1, 2, 3
//	(b) a district agency's alert is handled at level 2
//	(c) a city agency's alert ends at level 2, for the city legal office is the city's last
//	(d) a tampered copy of a street's journal is refused by its parent and named by verify
//	(e) a street that is cut off handles in time: its district opens level 2 on silence and withdraws it afterwards
//	(f) a district is off: its street reaches the city by itself, and level 3 opens at its time
//	(g) a street goes off before a limit ends: its district opens level 2 when level 1 would have run out
//	(h) a street turns its clock back: it records nothing, and what a patched one would send is refused
//	(i) a street patched to raise no alerts is named by its district
//
// Everything is real but the cases and the clock: keys, sockets, journals, files. The verdict asks only what the nodes
// answer to anybody and what their journals say; it never asks what the demo itself did. Omit takes a story's cause away,
// which must turn the verdict.
package demo
