// Package embedded is the default engine behind node/store: hashicorp/raft with raft-wal as the write-ahead log, payloads
// once in append-only segment files, tables and positions in SQLite. One replica or several; nothing to install.
//
// It promises what node/store promises. A command is answered when its raft log is fsynced (with replicas: on a
// majority) and applied in memory; files and tables are written behind, in as few and as large commits as the load
// makes. What a crash or a loss of power takes from segments and tables, the raft log has; a start puts them right before
// anything is served, and refuses where it can't. Where the writer fails (a full disk) the store stops: what was answered
// comes back with the next start.
//
// A replica that is behind the leader's log is sent the leader's whole state: a copy of tables.db and the journals' files.
// It takes the place of its own, also while queries run.
//
// Its limits: the replicas of a node are those of its configuration from its first start; there is no command yet that
// adds one. A replica that lost its folder must not vote until it has its state back: start it empty only while the
// others are up. One leader writes, others answer fault.NotLeader. One process holds a data folder. An erased payload is
// overwritten in its segment at once, but stays in the raft log until a marker trims that. SQLite's single writer is
// what bounds its speed. Entries that a fold refused are rows of the table store_fold_error (journal, fold, number,
// error), to be read with View. Erase takes the caller's word that an entry approves it.
//
// # The way of a command
//
// The caller's goroutine checks bounds, salts, digests and encodes. The batcher puts what waits into one raft log (a
// group), stamped with the leader's time; up to three are under way. Raft makes them durable and hands them to the
// ordered apply (machine), which settles keys, versions, cursors, numbers and times, and folds. The apply looks at no
// clock and writes nothing: rows stay in an overlay (rows), and entries in runs. At the end of a group it is shown to
// readers, and its callers are answered.
//
// The writer takes all that has gathered as one job, without waiting for more, while the apply is at the next groups: many
// groups share a transaction, and many writes to a row are one. It appends to the journals' files, then commits rows,
// positions and the applied index. What is answered and not written is bounded (Config.UnwrittenBytes): behind that the
// apply goes on at the writer's pace.
//
// # What readers wait for
//
// Get, Version, Cursor, Journal and Journals see a group as soon as it is applied: a row that is remembered, or not in the
// tables yet, is read from memory, any other from the tables. Nothing is seen of a group that is being applied, for a
// fold's rows may be undone. View, Scan and Erase wait until the tables have what was answered when they were called: for
// at most two commits of the writer. Read and Hashes wait so where they come to the end of what is in files. Watch wakes
// when a commit is in the tables.
//
// # The data folder
//
//	lock                  held by the process that has the folder open
//	raft/                 raft-wal's log and its wal-meta.db
//	snapshots/            raft's snapshots: each is a marker
//	tables.db             SQLite
//	sending-*/            a copy of tables.db on its way to another replica
//	incoming/, arrived/   another replica's state, before it takes the place of tables.db and journals/
//	journals/ID/          one folder for each journal, named by its id in hexadecimal
//	  FIRST.seg           segments of entries, named by the number of the first one, 20 decimal digits
//	  hashes              the tree
//	  ends                where each entry ends
//
// Numbers are big-endian.
//
// A segment begins with a header of 64 bytes: "dubanSEG", version (4 bytes, 1), journal id (16), number of the first
// entry (8), bytes of records in the segments before (8), zeros, CRC-32C of the 60 bytes before (4). Records follow:
//
//	state    1  'L', or 'E' for erased
//	header   4  length of the entry's header bytes
//	payload  4  length of the payload
//	sum      4  CRC-32C of both lengths and the header bytes
//	header bytes, salt (16), payload
//
// The header bytes hold the digest of salt and payload; so every byte of a record is covered. In an erased record salt
// and payload are zeros.
//
// hashes holds tlog's stored hashes of the journal's RFC 6962 tree, 32 bytes each, in tlog's order. ends holds for each
// entry 8 bytes: the bytes of records up to its end, counted through all segments.
//
// tables.db has the tables of folds and followers (see store.Table) and the engine's own: store_meta (schema, applied:
// raft's index of the last log applied, floor: keys recorded before it are expired, marked), store_journal (positions of
// each journal), store_fold and store_table (what the tables were made from), store_stream, store_key, store_natural,
// store_cursor, store_fold_error, and store_outcome (for each raft log since the marker before the last, one byte for
// each operation: 1 where it added).
//
// A raft log carries a group: version (1 byte, 1), the leader's time (8, microseconds), the floor of keys (8), the number
// of operations (uvarint), and for each operation its kind (1), length (uvarint) and body. codec.go has the bodies; fields
// are only ever added with a new version.
//
// A marker is "dubanMARK1\n" and one JSON object: the last raft log that the tables have, the own journal and its time,
// and size, bytes and root of each journal. In a state that was sent by the leader it also names files with their sizes,
// and their bytes follow. It is written after segments, hashes and tables are fsynced; only then may
// raft trim its log.
//
// # Starting
//
// Where the tables are at the marker or ahead of it, the files of journals are cut to the marker's sizes and what follows
// is written again from the raft log, as store_outcome says it came out. Where the tables are behind the marker (an
// older copy of tables.db) the logs up to the marker are applied by hand: raft itself starts at the marker and would
// leave a hole that looks consistent. Where the log does not reach back that far, the folder is refused. Then changed
// folds fold anew, and raft replays what follows the marker; what the tables have is skipped.
package embedded
