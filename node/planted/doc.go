// Package planted switches defects on that were put into the program on purpose, one at a time, to see whether the
// simulator finds them (cmd/duban/app/sim).
//
// What it promises: without the build tag `planted` On is constant false, and the compiler leaves the defects out. With it,
// DUBAN_PLANTED in the environment, or Set, names the one that is on. No shipped program has the tag.
package planted
