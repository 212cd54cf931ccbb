// Package federation carries journals up the tree of nodes (逐级汇聚), and what the journals above address to those below
// down: what both ends of a connection have in common. The child's end is federation/uplink, the parent's
// federation/downlink.
//
// What it promises: a parent has, of every journal below it, exactly the entries that the journal's own key signed for, as
// the bytes that were hashed; whoever stands in between can neither change, drop, reorder nor invent one. Acknowledged
// means durable at the parent, and countersigned: the child can prove what its parent has seen. A journal that contradicts
// what it signed before is refused and the evidence kept; the others go on. A node in the middle that is dead, or keeps
// things back, delays nothing for longer than the children's patience (Config.Around of the uplink).
//
// What it doesn't do: it knows no payload but its own (JournalKeyRecorded, PeerRefused, JournalReadmitted); what letters say
// and what attachments hold is for who is plugged in (Above, Below, Files). A journal that was refused stays so until people
// have settled it and an entry readmits it.
//
// # The stream
//
// One gRPC stream of duban.v1.SyncService, dialed by the child over mutual TLS:
//
//	child                                     parent
//	SyncHello: code, journals, kinds,
//	  letter positions                ----->  certificate, topology: may this child speak for these?
//	                                  <-----  SyncWelcome: size of each journal, which are refused, how much may be under
//	                                          way, which kinds may be written
//	SyncBatch: entries, checkpoint    ----->  digests, numbers, times, root, signature; then stored in one commit
//	                                  <-----  SyncAck: size that is durable, checkpoint with countersignature
//	SyncHeartbeat: fresh checkpoint   ----->  size it has, root, time
//	                                  <-----  SyncAck, or SyncRefusal of this journal
//	                                  <-----  SyncWitness: what a node above the parent countersigned
//	                                  <-----  SyncLetter: what a journal above addresses to the child, or to one below it
//	SyncLetterAck                     ----->
//	                                  <-----  SyncFetch: a portion of an attachment is wanted, or no longer
//	SyncChunk                         ----->
//
// A batch has one journal's entries without a gap and ends with the signed checkpoint of exactly their end. A node that
// forwards a journal from below can't sign for it: it ends batches where it has a checkpoint that it was given itself, and
// passes that on, with its own countersignature. Of those it keeps about one in KeepEvery bytes, and always the last.
// Messages are compressed with S2. What comes twice, or was brought by another stream, is acknowledged and not stored again.
//
// # Many at once
//
// A parent tells each child how many bytes it may have under way, and stops reading who exceeds it, or is beyond its even
// share while all together have too much. What was verified is stored by one committer for all streams: a portion of each
// journal in turn, a few commits of different journals at a time. See downlink.CoreConfig for the bounds.
//
// # Times
//
// A checkpoint states a time that no later entry may fall short of. At the end of a batch it is the recorded_at of the
// last entry; in a heartbeat it is the store's stamp. An entry that was recorded before an accepted checkpoint below it,
// a root that does not follow, a smaller size with a later time: each is a contradiction under the journal's own signature
// and ends the taking of that journal. Entries that don't fit the signature that they come with speak against the journal
// only where its writer presents them; otherwise against the stream that brought them.
//
// A countersignature states when its witness accepted a checkpoint. Witness keeps, for each journal from below, when it was
// first shown to this node and to those above its writer: by that a parent tells what was done in time from what is only
// said to have been.
//
// # Around a dead middle
//
// Countersignatures of the nodes above the parent come down the stream. Where the last own checkpoint that such a node
// countersigned states a time longer ago than Around, the child dials that node itself; it goes back when its word comes
// down by the parent again. What the parent missed goes to it as well then, in batches that end at the checkpoints that the
// other countersigned, so that the parent knows, too, what was done in time.
//
// # Versions
//
// A parent announces the entry kinds that it, and everything above it, knows; the child keeps that (Announced) and writes no
// others. An entry of a kind that the parent doesn't know is stored and acknowledged like any other.
package federation
