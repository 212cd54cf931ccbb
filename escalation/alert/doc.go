// Package alert says how one alert (预警) goes: who opens which level when, who may handle or dispute it, how it stands.
//
// Everything here is pure: times and what a node knows come in, entries and refusals go out. A level exists only as an
// entry; nothing here opens one by itself. LevelAt says which opening is due, Site.Next writes it, DecideHandling,
// DecideDispute and DecideReopen decide what an office asks for. Every node derives the same alert id from the same case, point and starting entry.
//
// A level is passed when the next one opens, closed when it was handled in time (before its due time, by the recording
// time of the journal of the office that received it), and otherwise open. The last level of a ladder has no next one:
// it stays open until it is handled, however late. A handling after the due time of any other level is kept and closes
// nothing. A dispute of a handling in time starts a new round at level 1.
//
// A level that was opened for want of word may be withdrawn by who opened it: it then counts as never opened, and the
// alert stands where the levels below left it. Its office may open it again, once, where the withdrawal rests on a
// journal's claim alone; its limit counts from then, and what was handled below it no longer closes the round.
//
// Site.Derive says which level a node waits for that it never saw opened: what a silent or unwilling node below should have
// opened, with the limits in between as though each had run out.
package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"duban.internal/node/journal"
)

// IDLength is the length of an alert id in characters.
const IDLength = 32

const (
	idLabel = "duban/alert/v1\n" // keeps the digest apart from any other use of SHA-256
	idBlock = 4096               // entries whose alerts lie together
	hexes   = "0123456789abcdef"
)

// ID derives an alert's id from the journal of the case, the case, the alert point and the number of the entry that
// started its limit: 32 hexadecimal digits. The last 29 are those of the first 16 bytes of SHA-256 over
//
//	"duban/alert/v1\n", the journal id (16 bytes), case id, "\n", point, "\n", the number in decimal
//
// The first three are the number divided by 4096, modulo 4096: alerts of about the same time lie together in every table
// that is kept by alert id, and firing many at once touches a tenth of the pages.
func ID(j journal.ID, caseID, point string, trigger uint64) string {
	b := make([]byte, 0, len(idLabel)+len(j)+len(caseID)+len(point)+24)
	b = append(b, idLabel...)
	b = append(b, j[:]...)
	b = append(b, caseID...)
	b = append(b, '\n')
	b = append(b, point...)
	b = append(b, '\n')
	b = strconv.AppendUint(b, trigger, 10)
	sum := sha256.Sum256(b)
	id := hex.AppendEncode(b[:0], sum[:IDLength/2])
	block := trigger / idBlock
	id[0], id[1], id[2] = hexes[block>>8&15], hexes[block>>4&15], hexes[block&15]
	return string(id)
}

const streamPrefix = "alert/"

// Stream is the stream of an alert in the journal of every node that writes about it.
func Stream(id string) string { return streamPrefix + id }

// FromStream is the alert id that Stream was given; false for any other stream.
func FromStream(stream string) (string, bool) { return strings.CutPrefix(stream, streamPrefix) }
