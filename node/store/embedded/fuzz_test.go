package embedded

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// FuzzGroup reads raft logs from bytes of any kind. What is read is written again as it was.
func FuzzGroup(f *testing.F) {
	p := store.Proposal{Stream: "case/1", Kind: 7, Skippable: true, OccurredAt: 5, Actor: "agency:1", Payload: []byte("payload")}
	p.Seal()
	id := journal.NewID()
	change := store.Change{Table: tally, Owner: id, Row: store.Row{"a", int64(-1), nil, []byte{}}}
	command := encodeCommand(nil, &store.Command{Expect: []store.Expect{{Stream: "case/1", Version: 300}}, Entries: []store.Proposal{p},
		Cursors: []store.Advance{{Follower: "f", Journal: id, From: 1, To: 2}}, Changes: []store.Change{change}, Client: "c", Key: "k", Natural: "n"})
	raw := (&journal.Header{Journal: id, Number: 3, Algorithm: journal.SHA256, Digest: p.Digest, Stream: "s"}).Append(nil)
	replica := encodeReplica(nil, &store.Replica{Journal: id, From: 3, Entries: []journal.Entry{{Raw: raw, Salt: p.Salt, Payload: p.Payload}, {Raw: raw, Erased: true}}})
	whole := groupHeader(nil, 1, -2, 3)
	for _, o := range []op{{opCommand, command}, {opReplica, replica}, {opStamp, nil}} {
		whole = appendOp(whole, o)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(groupHeader(nil, 1, 2, 1<<40))                                                                            // more operations than bytes
	f.Add(appendOp(groupHeader(nil, 1, 2, 1), op{opCommand, []byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f}}))              // entries
	f.Add(appendOp(groupHeader(nil, 1, 2, 1), op{opReplica, append(id[:], 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f)})) // entries of a run
	tables := map[string]*table{}
	if t, err := newTable(tally, nil); err == nil {
		tables[tally.Name] = t
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := decodeGroup(b)
		if err != nil {
			return
		}
		for _, o := range g.ops {
			switch o.kind {
			case opCommand:
				var c store.Command
				if decodeCommand(o.body, &c, tables) != nil || unknownTable(c.Changes) {
					continue
				}
				var again store.Command
				if err := decodeCommand(encodeCommand(nil, &c), &again, tables); err != nil || len(again.Entries) != len(c.Entries) || again.Natural != c.Natural {
					t.Fatalf("written again: %v %+v, was %+v", err, again, c)
				}
			case opReplica:
				var c store.Replica
				if decodeReplica(o.body, &c, tables) != nil || unknownTable(c.Changes) {
					continue
				}
				var again store.Replica
				if err := decodeReplica(encodeReplica(nil, &c), &again, tables); err != nil || len(again.Entries) != len(c.Entries) || again.From != c.From {
					t.Fatalf("written again: %v %+v, was %+v", err, again, c)
				}
			}
		}
	})
}

func unknownTable(changes []store.Change) bool {
	for _, c := range changes {
		if c.Table == nil {
			return true
		}
	}
	return false
}

// FuzzRecord reads records of segments. One that is accepted is, byte for byte, what would be written.
func FuzzRecord(f *testing.F) {
	p := store.Proposal{Stream: "s", Payload: []byte("payload")}
	p.Seal()
	live := appendRecord(nil, []byte("header"), p.Salt, p.Payload, false)
	f.Add(live)
	f.Add(append(live, "what follows"...))
	f.Add(appendRecord(nil, []byte("header"), nil, nil, true))
	f.Add(live[:recordHeader+2])
	f.Add(binary.BigEndian.AppendUint32([]byte{stateLive, 0xff, 0xff, 0xff, 0xff}, 0xffffffff))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		if r.size > len(b) || len(r.raw) > maxRaw || len(r.payload) > journal.MaxPayload {
			t.Fatalf("a record of %d bytes in %d", r.size, len(b))
		}
		if r.erased {
			return // its payload's length is all that is left of it
		}
		if again := appendRecord(nil, r.raw, r.salt, r.payload, false); !bytes.Equal(again, b[:r.size]) {
			t.Fatalf("%x written again is %x", b[:r.size], again)
		}
	})
}

// FuzzMarker reads markers, and names of files that a leader's state asks to be written.
func FuzzMarker(f *testing.F) {
	var b strings.Builder
	mk := &marker{Applied: 7, Own: journal.NewID().String(), Stamp: 3, Journals: []markedSize{{ID: "x", Size: 1, Bytes: 2, Root: "00"}}, Files: []sentFile{{tablesFile, 5}}}
	if err := mk.write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(b.String() + "bytes"))
	f.Add([]byte(markerMagic))
	f.Add([]byte(markerMagic + "{}\n"))
	f.Add([]byte(markerMagic + "[" + strings.Repeat("[", 1000) + "\n"))
	f.Add([]byte(markerMagic + `{"files":[{"name":"../../x","size":-1}]}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		mk, rest, err := readMarker(bytes.NewReader(b))
		if err != nil {
			return
		}
		line := bytes.IndexByte(b[len(markerMagic):], '\n')
		after, err := io.ReadAll(rest)
		if err != nil || line < 0 || !bytes.Equal(after, b[len(markerMagic)+line+1:]) {
			t.Fatalf("behind the marker are %x: %v", after, err)
		}
		for _, file := range mk.Files {
			if goodName(file.Name) && (strings.Contains(file.Name, "..") || strings.HasPrefix(file.Name, "/") || strings.Contains(file.Name, `\`)) {
				t.Fatalf("a state may write %q", file.Name)
			}
		}
	})
}
