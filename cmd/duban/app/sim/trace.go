package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"duban.internal/node/clock"
)

// kept is how many events before a violation are shown.
const kept = 40

// trace is the record of a history: all of it as a hash, the last of it in words.
type trace struct {
	hash  hash.Hash
	last  [kept]remark
	n     uint64
	out   io.Writer // every event in words; nil for none
	space []byte
}

// remark is one event. What it was about is said in words only when somebody asks.
type remark struct {
	at   int64
	node string
	what string
	text string
	a, b int64
}

func newTrace(out io.Writer) *trace { return &trace{hash: sha256.New(), out: out} }

func (t *trace) add(n remark) {
	s := t.space[:0]
	s = binary.BigEndian.AppendUint64(s, uint64(n.at))
	s = append(append(s, n.node...), 0)
	s = append(append(s, n.what...), 0)
	s = append(append(s, n.text...), 0)
	s = binary.BigEndian.AppendUint64(s, uint64(n.a))
	s = binary.BigEndian.AppendUint64(s, uint64(n.b))
	t.hash.Write(s)
	t.space = s
	t.last[t.n%kept] = n
	t.n++
	if t.out != nil {
		fmt.Fprintln(t.out, n)
	}
}

func (n remark) String() string {
	s := fmt.Sprintf("%s %-9s %s", clock.Time(n.at).Format("2006-01-02T15:04:05.000000"), n.node, n.what)
	if n.text != "" {
		s += " " + n.text
	}
	if n.a != 0 || n.b != 0 {
		s += fmt.Sprintf(" %d", n.a)
	}
	if n.b != 0 {
		s += fmt.Sprintf(" %d", n.b)
	}
	return s
}

func (t *trace) sum() string { return hex.EncodeToString(t.hash.Sum(nil)) }

// tail are the last events in words.
func (t *trace) tail() []string {
	var out []string
	for i := max(t.n, kept) - kept; i < t.n; i++ {
		out = append(out, t.last[i%kept].String())
	}
	return out
}
