package journal_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"duban.internal/node/journal"
)

func sample() (journal.Header, []byte, []byte) {
	salt, payload := bytes.Repeat([]byte{7}, journal.SaltSize), []byte("payload")
	return journal.Header{
		Journal: journal.ID{0xab, 1, 2}, Number: 5, OccurredAt: 1_000_001, RecordedAt: 1_000_002, Kind: 20, Skippable: true,
		Algorithm: journal.SHA256, Digest: journal.Digest(salt, payload), Actor: "agency:market", Stream: "case/2026-17",
		Extensions: []byte{9, 9},
	}, salt, payload
}

// The format never changes under a version number: these are the bytes that doc.go specifies.
func TestHeaderBytes(t *testing.T) {
	h, _, _ := sample()
	want := "01" + "01" + "01" + "ab010200000000000000000000000000" + "0000000000000005" + "00000000000f4241" + "00000000000f4242" +
		"00000014" + hex.EncodeToString(h.Digest[:]) + "000d" + hex.EncodeToString([]byte("agency:market")) +
		"000c" + hex.EncodeToString([]byte("case/2026-17")) + "0909"
	raw := h.Append(nil)
	if got := hex.EncodeToString(raw); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	back, err := journal.DecodeHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(h, back); d != "" {
		t.Error(d)
	}
}

func TestDecodeHeaderRefuses(t *testing.T) {
	h, _, _ := sample()
	good := h.Append(nil)
	change := func(at int, b byte) []byte {
		raw := bytes.Clone(good)
		raw[at] = b
		return raw
	}
	for name, raw := range map[string][]byte{
		"nothing": nil, "short": good[:82], "version": change(0, 2), "flags": change(1, 2), "actor's length": change(79, 255),
		"actor cut": good[:85], "stream's length": change(81+13, 255), "not UTF-8": change(81, 0xff),
		"extensions": append(bytes.Clone(good), make([]byte, 1024)...),
	} {
		if h, err := journal.DecodeHeader(raw); err == nil {
			t.Errorf("%s: read as %+v", name, h)
		}
	}
}

func TestOpen(t *testing.T) {
	h, salt, payload := sample()
	raw := h.Append(nil)
	if e, err := journal.Open(raw, salt, payload, false); err != nil || e.Number != 5 || string(e.Payload) != "payload" {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := journal.Open(raw, nil, nil, true); err != nil {
		t.Errorf("erased: %v", err)
	}
	sm3 := h
	sm3.Algorithm = 2
	for name, c := range map[string]struct {
		raw, salt, payload []byte
		erased             bool
		want               string
	}{
		"payload":          {raw, salt, []byte("Payload"), false, "entry 5: payload does not match"},
		"salt":             {raw, bytes.Repeat([]byte{8}, 16), payload, false, "does not match"},
		"no salt":          {raw, nil, payload, false, "salt of 0 bytes"},
		"shifted":          {raw, append(bytes.Clone(salt), 'p'), payload[1:], false, "salt of 17 bytes"},
		"erased with salt": {raw, salt, nil, true, "erased, and yet"},
		"algorithm":        {sm3.Append(nil), salt, payload, false, "algorithm 2"},
		"header":           {raw[:20], salt, payload, false, "malformed"},
	} {
		if _, err := journal.Open(c.raw, c.salt, c.payload, c.erased); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What decodes encodes to the very same bytes, or a leaf would have two readings.
func FuzzDecodeHeader(f *testing.F) {
	h, _, _ := sample()
	f.Add(h.Append(nil))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := journal.DecodeHeader(raw)
		if err != nil {
			return
		}
		if back := h.Append(nil); !bytes.Equal(back, raw) {
			t.Errorf("%x read and written again as %x", raw, back)
		}
		if len(raw) > journal.MaxHeader || len(h.Actor) > journal.MaxActor || len(h.Stream) > journal.MaxStream {
			t.Error("out of bounds")
		}
	})
}
