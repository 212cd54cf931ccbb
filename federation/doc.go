// Package federation carries journals up the tree of nodes (逐级汇聚): what both ends of a connection have in common. The
// child's end is federation/uplink, the parent's federation/downlink.
//
// What it promises: a parent has, of every journal below it, exactly the entries that the journal's own key signed for, as
// the bytes that were hashed; whoever stands in between can neither change, drop, reorder nor invent one. Acknowledged
// means durable at the parent, and countersigned: the child can prove what its parent has seen. A journal that contradicts
// what it signed before is refused and the evidence kept; the others go on.
//
// What it doesn't do: it knows no payload but its own (JournalKeyRecorded, PeerRefused), and nothing goes down yet but
// positions and countersignatures. A journal that was refused stays so until people have settled it.
//
// # The stream
//
// One gRPC stream of duban.v1.SyncService, dialed by the child over mutual TLS:
//
//	child                                     parent
//	SyncHello: code, journals, kinds  ----->  certificate, topology: may this child speak for these?
//	                                  <-----  SyncWelcome: size of each journal, which are refused
//	SyncBatch: entries, checkpoint    ----->  digests, numbers, times, root, signature; then stored in one commit
//	                                  <-----  SyncAck: size that is durable, checkpoint with countersignature
//	SyncHeartbeat: fresh checkpoint   ----->  size it has, root, time
//	                                  <-----  SyncAck, or SyncRefusal of this journal
//
// A batch has one journal's entries without a gap and ends with the signed checkpoint of exactly their end. A node that
// forwards a journal from below can't sign for it: it ends batches where it has a checkpoint that it was given itself, and
// passes that on. Of those it keeps about one in KeepEvery bytes, and always the last. Messages are compressed with S2.
//
// # Times
//
// A checkpoint states a time that no later entry may fall short of. At the end of a batch it is the recorded_at of the
// last entry; in a heartbeat it is the store's stamp. An entry that was recorded before an accepted checkpoint below it,
// a root that does not follow, a smaller size with a later time: each is a contradiction under the journal's own signature
// and ends the taking of that journal.
package federation
