package embedded

import (
	"sync"

	"duban.internal/node/journal"
)

// run is what groups add to one journal's files. Its memory is used again: most of what a command allocates would be here.
type run struct {
	at           position
	records      []*[]byte // chunks, so that nothing is copied as they grow
	hashes, ends []byte
}

const chunkBytes = 64 << 10

var (
	runs   = sync.Pool{New: func() any { return new(run) }}
	chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunkBytes); return &b }}
)

func newRun(at position) *run {
	r := runs.Get().(*run)
	r.at = at
	return r
}

// add appends the record of an entry and returns its length.
func (r *run) add(e *journal.Entry) int64 {
	size := recordHeader + len(e.Raw) + journal.SaltSize + len(e.Payload)
	var last *[]byte
	if n := len(r.records); n > 0 {
		last = r.records[n-1]
	}
	if last == nil || cap(*last)-len(*last) < size {
		if size > chunkBytes {
			b := make([]byte, 0, size)
			last = &b
		} else {
			last = chunks.Get().(*[]byte)
		}
		r.records = append(r.records, last)
	}
	before := len(*last)
	*last = appendRecord(*last, e.Raw, e.Salt, e.Payload, e.Erased)
	return int64(len(*last) - before)
}

// free gives the memory back; the run must not be used any more.
func (r *run) free() {
	for _, c := range r.records {
		if cap(*c) == chunkBytes {
			*c = (*c)[:0]
			chunks.Put(c)
		}
	}
	clear(r.records)
	*r = run{records: r.records[:0], hashes: r.hashes[:0], ends: r.ends[:0]}
	if cap(r.hashes) <= 1<<20 {
		runs.Put(r)
	}
}
