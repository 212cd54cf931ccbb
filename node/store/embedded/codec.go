package embedded

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"duban.internal/node/journal"
	"duban.internal/node/store"
)

// A group is what one raft log carries; doc.go has the format.
const groupVersion = 1

// Kinds of operation in a group; never renumbered.
const (
	opCommand byte = iota + 1
	opReplica
	opStamp
	opErase
)

type group struct {
	stamp int64 // the leader's time
	floor int64 // keys recorded before it are expired
	ops   []op
}

type op struct {
	kind byte
	body []byte
}

// groupHeader begins a group of n operations.
func groupHeader(dst []byte, stamp, floor int64, n int) []byte {
	dst = append(dst, groupVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(stamp))
	dst = binary.BigEndian.AppendUint64(dst, uint64(floor))
	return binary.AppendUvarint(dst, uint64(n))
}

func appendOp(dst []byte, o op) []byte {
	dst = append(dst, o.kind)
	dst = binary.AppendUvarint(dst, uint64(len(o.body)))
	return append(dst, o.body...)
}

func decodeGroup(b []byte) (group, error) {
	d := decoder{b: b}
	if v := d.byte(); v != groupVersion && !d.bad {
		return group{}, fmt.Errorf("raft log of version %d, this program reads %d", v, groupVersion)
	}
	g := group{stamp: int64(d.fixed64()), floor: int64(d.fixed64())}
	n := d.count(2)
	g.ops = make([]op, 0, n)
	for range n {
		g.ops = append(g.ops, op{kind: d.byte(), body: d.bytes()})
	}
	return g, d.end()
}

func encodeCommand(dst []byte, c *store.Command) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.Expect)))
	for _, x := range c.Expect {
		dst = appendString(dst, x.Stream)
		dst = binary.AppendUvarint(dst, x.Version)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Entries)))
	for i := range c.Entries {
		p := &c.Entries[i]
		var skip byte
		if p.Skippable {
			skip = 1
		}
		dst = appendString(dst, p.Stream)
		dst = append(binary.AppendUvarint(dst, uint64(p.Kind)), skip)
		dst = binary.BigEndian.AppendUint64(dst, uint64(p.OccurredAt))
		dst = appendString(dst, p.Actor)
		dst = append(append(dst, p.Salt...), p.Digest[:]...)
		dst = appendString(dst, p.Payload)
	}
	dst = encodeCursors(dst, c.Cursors)
	dst = encodeChanges(dst, c.Changes)
	dst = appendString(dst, c.Client)
	dst = appendString(dst, c.Key)
	if c.Key != "" {
		dst = append(dst, c.Request[:]...)
	}
	return appendString(dst, c.Natural)
}

func decodeCommand(b []byte, c *store.Command, tables map[string]*table) error {
	d := decoder{b: b}
	for range d.count(2) {
		c.Expect = append(c.Expect, store.Expect{Stream: d.string(), Version: d.uvarint()})
	}
	if n := d.count(4 + 8 + journal.SaltSize + sha256.Size + 1); n > 0 {
		c.Entries = make([]store.Proposal, n)
	}
	for i := range c.Entries {
		p := &c.Entries[i]
		p.Stream, p.Kind, p.Skippable = d.string(), uint32(d.uvarint()), d.byte() == 1
		p.OccurredAt, p.Actor = int64(d.fixed64()), d.string()
		p.Salt = d.take(journal.SaltSize)
		copy(p.Digest[:], d.take(len(p.Digest)))
		p.Payload = d.bytes()
	}
	c.Cursors = d.cursors()
	c.Changes = d.changes(tables)
	c.Client, c.Key = d.string(), d.string()
	if c.Key != "" {
		copy(c.Request[:], d.take(len(c.Request)))
	}
	c.Natural = d.string()
	return d.end()
}

// minHeader is less than any entry's header has.
const minHeader = 48

func encodeReplica(dst []byte, r *store.Replica) []byte {
	dst = append(dst, r.Journal[:]...)
	dst = binary.AppendUvarint(dst, r.From)
	dst = binary.AppendUvarint(dst, uint64(len(r.Entries)))
	for i := range r.Entries {
		e := &r.Entries[i]
		dst = appendString(dst, e.Raw)
		if e.Erased {
			dst = append(dst, 1)
			continue
		}
		dst = append(append(dst, 0), e.Salt...)
		dst = appendString(dst, e.Payload)
	}
	dst = encodeCursors(dst, r.Cursors)
	return encodeChanges(dst, r.Changes)
}

func decodeReplica(b []byte, r *store.Replica, tables map[string]*table) error {
	d := decoder{b: b}
	copy(r.Journal[:], d.take(len(r.Journal)))
	r.From = d.uvarint()
	if n := d.count(minHeader + 2); n > 0 {
		r.Entries = make([]journal.Entry, n)
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		e.Raw = d.bytes()
		if e.Erased = d.byte() == 1; !e.Erased {
			e.Salt = d.take(journal.SaltSize)
			e.Payload = d.bytes()
		}
		var err error
		if e.Header, err = journal.DecodeHeader(e.Raw); err != nil && !d.bad {
			return err
		}
	}
	r.Cursors = d.cursors()
	r.Changes = d.changes(tables)
	return d.end()
}

func encodeCursors(dst []byte, cursors []store.Advance) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(cursors)))
	for _, a := range cursors {
		dst = append(appendString(dst, a.Follower), a.Journal[:]...)
		dst = binary.AppendUvarint(dst, a.From)
		dst = binary.AppendUvarint(dst, a.To)
	}
	return dst
}

func encodeChanges(dst []byte, changes []store.Change) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(changes)))
	for _, c := range changes {
		dst = append(appendString(dst, c.Table.Name), c.Owner[:]...)
		var del byte
		if c.Delete {
			del = 1
		}
		dst = append(dst, del)
		dst = binary.AppendUvarint(dst, uint64(len(c.Row)))
		for _, v := range c.Row {
			switch v := v.(type) {
			case int64:
				dst = binary.BigEndian.AppendUint64(append(dst, 1), uint64(v))
			case string:
				dst = appendString(append(dst, 2), v)
			case []byte:
				dst = appendString(append(dst, 3), v)
			default:
				dst = append(dst, 0)
			}
		}
	}
	return dst
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

var errMalformed = errors.New("malformed raft log")

// decoder reads what the encoders wrote; its slices alias the input. After a malformed field it gives zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return errMalformed
	}
	return nil
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.fail()
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) fixed64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads the number of things that follow, each at least so many bytes long: what is made for them is never much
// larger than the input.
func (d *decoder) count(least int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/least) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte  { return d.take(d.count(1)) }
func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) cursors() []store.Advance {
	var out []store.Advance
	for range d.count(1 + len(journal.ID{}) + 2) {
		a := store.Advance{Follower: d.string()}
		copy(a.Journal[:], d.take(len(a.Journal)))
		a.From, a.To = d.uvarint(), d.uvarint()
		out = append(out, a)
	}
	return out
}

// changes leaves Table nil for a table that this program does not have.
func (d *decoder) changes(tables map[string]*table) []store.Change {
	var out []store.Change
	for range d.count(1 + len(journal.ID{}) + 2) {
		var c store.Change
		if t := tables[d.string()]; t != nil {
			c.Table = t.Table
		}
		copy(c.Owner[:], d.take(len(c.Owner)))
		c.Delete = d.byte() == 1
		n := d.count(1)
		c.Row = make(store.Row, 0, n)
		for range n {
			switch d.byte() {
			case 0:
				c.Row = append(c.Row, nil)
			case 1:
				c.Row = append(c.Row, int64(d.fixed64()))
			case 2:
				c.Row = append(c.Row, d.string())
			case 3:
				c.Row = append(c.Row, append([]byte{}, d.bytes()...))
			default:
				d.fail()
			}
		}
		out = append(out, c)
	}
	return out
}
