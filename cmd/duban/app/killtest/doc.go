// Package killtest kills the processes of a loaded tree with SIGKILL, again and again, under a seed, and then asks the
// journals: nothing that was answered is lost, every tree and table verifies, no (alert, round, level) opened twice or
// early. It has no production code.
//
// DUBAN_KILLS says how many kills (default 9), DUBAN_SEED which (default 1).
package killtest
