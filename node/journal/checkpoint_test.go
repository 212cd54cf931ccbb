package journal_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"duban.internal/node/journal"
)

func newKey(t testing.TB, id journal.ID) *journal.Key {
	t.Helper()
	private, public, err := journal.GenerateKey(id)
	if err != nil {
		t.Fatal(err)
	}
	k, err := journal.ParseKey(private + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if k.Public().String() != public || k.Public().Journal() != id {
		t.Fatalf("key of %s read as %s", public, k.Public())
	}
	return k
}

var (
	child  = journal.ID{1}
	parent = journal.ID{2}
)

const stated = 1_795_322_399_000_042 // 2026-11-22T04:39:59.000042Z

func checkpoint() journal.Checkpoint {
	return journal.Checkpoint{Journal: child, Size: 12, Root: tlog.Hash{3}, Time: stated}
}

func TestCheckpointText(t *testing.T) {
	want := "duban.internal/journal/01000000000000000000000000000000\n12\nAwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" +
		"time 2026-11-22T04:39:59.000042Z\n"
	if got := checkpoint().Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestSignAndOpen(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		k := newKey(t, child)
		c := journal.Checkpoint{Journal: child, Size: rapid.Uint64Range(0, journal.MaxSize).Draw(r, "size"),
			Root: tlog.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(r, "root")), Time: rapid.Int64Range(0, 4e15).Draw(r, "time")}
		signed, err := k.Sign(c)
		if err != nil {
			r.Fatal(err)
		}
		if got, err := k.Public().Open(signed); err != nil || got != c {
			r.Fatalf("%+v, %v; want %+v", got, err, c)
		}
		if got, err := journal.ParseCheckpoint(signed); err != nil || got != c {
			r.Fatalf("%+v, %v; want %+v", got, err, c)
		}
		at := rapid.IntRange(0, len(signed)-1).Draw(r, "at")
		changed := bytes.Clone(signed)
		changed[at] ^= 1 << rapid.IntRange(0, 6).Draw(r, "bit")
		if got, err := k.Public().Open(changed); err == nil && got != c {
			r.Fatalf("byte %d changed, and opened as %+v", at, got)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	k := newKey(t, child)
	signed, err := k.Sign(checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(func() string {
		s, _, err := journal.GenerateKey(child)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}())
	if err != nil {
		t.Fatal(err)
	}
	forged := func(text string) []byte { // well signed by a key of the right name, or not so well written
		out, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	text := checkpoint().Text()
	for name, b := range map[string][]byte{
		"nothing":     nil,
		"unsigned":    []byte(text),
		"other key":   forged(text),
		"too long":    append(bytes.Clone(signed), bytes.Repeat([]byte("— x AAAAAAA=\n"), 800)...),
		"cut":         signed[:len(signed)-5],
		"tampered":    bytes.Replace(signed, []byte("\n12\n"), []byte("\n13\n"), 1),
		"other":       forged(strings.Replace(text, "/01", "/02", 1)),
		"two bodies":  append([]byte(text+"\n"), signed...),
		"empty lines": []byte("\n\n"),
	} {
		if c, err := k.Public().Open(b); err == nil {
			t.Errorf("%s: opened as %+v", name, c)
		}
	}
	for name, b := range map[string]string{
		"zeros":    strings.Replace(text, "\n12\n", "\n012\n", 1),
		"sign":     strings.Replace(text, "\n12\n", "\n+12\n", 1),
		"size":     strings.Replace(text, "\n12\n", "\n9223372036854775807\n", 1),
		"root":     strings.Replace(text, "AwAA", "AwA", 1),
		"time":     strings.Replace(text, "042Z", "04Z", 1),
		"zone":     strings.Replace(text, "042Z", "042+00:00", 1),
		"no time":  strings.Replace(text, "time ", "", 1),
		"another":  text + "another line\n",
		"missing":  strings.Join(strings.SplitAfter(text, "\n")[:3], ""),
		"origin":   strings.Replace(text, "duban.internal", "example.com", 1),
		"capitals": strings.Replace(text, "/01", "/0A", 1),
	} {
		if c, err := journal.ParseCheckpoint(forged(b)); err == nil {
			t.Errorf("%s: read as %+v", name, c)
		}
	}
	if _, err := newKey(t, parent).Sign(checkpoint()); err == nil {
		t.Error("signed with another journal's key")
	}
	if _, err := newKey(t, parent).Public().Open(signed); err == nil {
		t.Error("opened with another journal's key")
	}
}

func TestCountersign(t *testing.T) {
	k, w, other := newKey(t, child), newKey(t, parent), newKey(t, journal.ID{3})
	signed, err := k.Sign(checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	both, err := w.Countersign(signed, stated+1_500_000)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := k.Public().Open(both); err != nil || c != checkpoint() {
		t.Errorf("countersigned: %+v, %v", c, err)
	}
	if at, err := w.Public().Witnessed(both); err != nil || at != 1_795_322_400_000_000 {
		t.Errorf("witnessed at %d, %v", at, err)
	}
	for name, b := range map[string][]byte{
		"not countersigned": signed,
		"other size":        bytes.Replace(both, []byte("\n12\n"), []byte("\n13\n"), 1),
		"no checkpoint":     []byte("x\n\n" + string(both[bytes.Index(both, []byte("\n\n"))+2:])),
	} {
		if at, err := w.Public().Witnessed(b); err == nil {
			t.Errorf("%s: witnessed at %d", name, at)
		}
	}
	if _, err := other.Public().Witnessed(both); err == nil {
		t.Error("witnessed by one who did not sign")
	}
	if _, err := k.Public().Witnessed(both); err == nil {
		t.Error("a checkpoint's own signature counts as its witness")
	}

	// By the letter of C2SP tlog-cosignature: key type 4, time in seconds before the signature.
	line := strings.Fields(string(both[len(signed):]))
	blob, err := base64.StdEncoding.DecodeString(line[2])
	if err != nil || line[0] != "—" || line[1] != journal.Origin(parent) || len(blob) != 4+8+64 {
		t.Fatalf("%q: %d bytes, %v", line, len(blob), err)
	}
	fields := strings.SplitN(w.Public().String(), "+", 3)
	key, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(blob[4:]), checkpoint().Text())
	if !ed25519.Verify(key[1:], []byte(message), blob[12:]) {
		t.Error("the signature is not over cosignature/v1, time and body")
	}
}

func TestKeysRefuse(t *testing.T) {
	private, public, err := journal.GenerateKey(child)
	if err != nil {
		t.Fatal(err)
	}
	foreignPrivate, foreign, err := note.GenerateKey(nil, "example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", private, foreign, public[:len(public)-4], strings.Replace(public, "/01", "/02", 1)} {
		if k, err := journal.ParsePublicKey(s); err == nil {
			t.Errorf("%q read as %v", s, k)
		}
	}
	for _, s := range []string{"", public, foreignPrivate, private[:len(private)-4]} {
		if _, err := journal.ParseKey(s); err == nil {
			t.Errorf("%q read", s)
		}
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	k := newKey(f, child)
	signed, err := k.Sign(checkpoint())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add([]byte(checkpoint().Text()))
	f.Add([]byte("\n\n— "))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := journal.ParseCheckpoint(b); err == nil && !bytes.HasPrefix(b, []byte(c.Text()+"\n")) {
			t.Errorf("%q read as %+v", b, c)
		}
		if c, err := k.Public().Open(b); err == nil && c != checkpoint() {
			t.Errorf("%q opened as %+v", b, c)
		}
		if _, err := k.Public().Witnessed(b); err == nil {
			t.Errorf("%q is countersigned", b)
		}
	})
}

func BenchmarkCheckpoint(b *testing.B) {
	k, w := newKey(b, child), newKey(b, parent)
	signed, err := k.Sign(checkpoint())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			if _, err := k.Sign(checkpoint()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := k.Public().Open(signed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("countersign", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.Countersign(signed, stated); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFrontierAppend(b *testing.B) {
	var f journal.Frontier
	leaf := journal.LeafHash([]byte("x"))
	for b.Loop() {
		f.Append(leaf)
	}
}
