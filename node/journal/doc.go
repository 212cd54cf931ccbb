// Package journal is the record that can be proved (日志): entries, the Merkle tree over them, and signed checkpoints.
//
// What it promises: bytes that were hashed are the bytes that travel; a decoder refuses whatever the encoder could not have
// written; a checkpoint or proof that verifies does so by RFC 6962 and C2SP, so that anybody can check it with other tools.
// What it doesn't do: it knows no payload, keeps nothing, and asks no clock. Whether an entry may follow another (dense
// numbers, times that don't run back) is checked by who appends.
//
// # Entry
//
// An entry is a header, which is the leaf of the tree, and beside it a salt and a payload, which the header names by their
// digest. Erasing salt and payload leaves every proof standing. Integers are big-endian, times microseconds since 1970 UTC
// in two's complement.
//
//	offset  bytes  field
//	     0      1  version: 1
//	     1      1  flags: bit 0 a reader that does not know the kind may skip the entry; others 0
//	     2      1  digest algorithm: 1 SHA-256 (2 is kept for SM3)
//	     3     16  journal id, random and permanent
//	    19      8  number, from 0 and dense
//	    27      8  occurred_at, as the actor states it
//	    35      8  recorded_at, as the node recorded it; never before the entry before
//	    43      4  kind, a duban.v1.EntryKind
//	    47     32  digest: SHA-256 of the salt's 16 bytes, then the payload's
//	    79      2  length of actor, at most 256
//	    81      n  actor, UTF-8
//	  81+n      2  length of stream, at most 160
//	  83+n      m  stream, UTF-8
//	83+n+m      e  extensions of later versions, at most 1024 bytes, kept as they came
//
// The payload has at most 4 MiB. An erased entry has neither salt nor payload. The leaf hash is SHA-256(0x00 || header), an
// inner node SHA-256(0x01 || left || right), the tree that of RFC 6962 over the headers in order of their numbers.
//
// # Checkpoint
//
// A checkpoint is a signed note as in C2SP tlog-checkpoint, with one extension line: the time that the journal's node
// states. No entry with a number from size on bears an earlier recorded_at: one that does is a forgery that anyone who has
// both can prove.
//
//	duban.internal/journal/<journal id, 32 hexadecimal digits>
//	<size, decimal>
//	<root, base64>
//	time <RFC 3339, UTC, six digits of microseconds, ending in Z>
//
//	— duban.internal/journal/<journal id> <base64 of key hash and Ed25519 signature>
//
// The first line is also the name of the journal's key, so a checkpoint can't be passed off as another journal's. It is
// refused unless written exactly so, and above 8 KiB. A parent that has verified that a checkpoint extends the last one
// countersigns it (会签): a further signature line as in C2SP tlog-cosignature, "cosignature/v1", key type 0x04, with the
// witness's time in whole seconds, by the key of the parent's own journal. That one Ed25519 key signs both is sound: what a
// countersignature signs begins with the line "cosignature/v1", and what a checkpoint signs with the journal's name.
package journal
