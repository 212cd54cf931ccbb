package journal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

// Bounds of an entry, in bytes.
const (
	MaxActor   = 256
	MaxStream  = 160
	MaxPayload = 4 << 20
	MaxHeader  = fixedSize + 2 + MaxActor + 2 + MaxStream + maxExtensions
	SaltSize   = 16
)

// ID names a journal for ever: 16 random bytes. A jurisdiction's code, name and parent are dated facts about it.
type ID [16]byte

// NewID draws an id.
func NewID() ID {
	var id ID
	if _, err := io.ReadFull(rand.Reader, id[:]); err != nil {
		panic(err) // crypto/rand does not fail on supported systems
	}
	return id
}

// ParseID reads the 32 hexadecimal digits that String writes.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return ID{}, fmt.Errorf("journal id %q: expected 32 hexadecimal digits", s)
	}
	return ID(b), nil
}

// IDFrom takes the 16 bytes of an id off the wire.
func IDFrom(b []byte) (ID, error) {
	if len(b) != len(ID{}) {
		return ID{}, fmt.Errorf("journal id: expected 16 bytes, got %d", len(b))
	}
	return ID(b), nil
}

// String is the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether no id was given.
func (id ID) IsZero() bool { return id == ID{} }

// Algorithm names the digest over salt and payload.
type Algorithm uint8

// SHA256 is the only algorithm yet; 2 is kept for SM3.
const SHA256 Algorithm = 1

// Header is what an entry's leaf in the tree says. Times are microseconds of UTC.
type Header struct {
	Journal    ID
	Number     uint64 // from 0, dense
	OccurredAt int64  // as the actor states it
	RecordedAt int64  // as the node recorded it; never before the entry before
	Kind       uint32 // an EntryKind; payloads are opaque here
	Skippable  bool   // a reader that does not know Kind may go on
	Algorithm  Algorithm
	Digest     [sha256.Size]byte // of salt, then payload
	Actor      string            // who signed for it, at most MaxActor bytes
	Stream     string            // what it is about, such as "case/2026-17", at most MaxStream bytes
	Extensions []byte            // fields of later versions, kept as they came
}

// Entry is a header as it was hashed, with its payload beside it.
type Entry struct {
	Header
	Raw     []byte // the header's bytes: the leaf
	Salt    []byte // SaltSize bytes; nil where erased
	Payload []byte // nil where erased
	Erased  bool
}

// The format is specified in doc.go.
const (
	version   = 1
	fixedSize = 1 + 1 + 1 + 16 + 8 + 8 + 8 + 4 + sha256.Size
	flagSkip  = 1

	maxExtensions = 1024
)

// Append encodes h after dst.
func (h *Header) Append(dst []byte) []byte {
	var flags byte
	if h.Skippable {
		flags |= flagSkip
	}
	dst = append(dst, version, flags, byte(h.Algorithm))
	dst = append(dst, h.Journal[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.Number)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.OccurredAt))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.RecordedAt))
	dst = binary.BigEndian.AppendUint32(dst, h.Kind)
	dst = append(dst, h.Digest[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(h.Actor)))
	dst = append(dst, h.Actor...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(h.Stream)))
	dst = append(dst, h.Stream...)
	return append(dst, h.Extensions...)
}

var errHeader = errors.New("journal: malformed entry header")

// DecodeHeader reads a header; it refuses what it can't have written.
func DecodeHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < fixedSize+4 {
		return h, fmt.Errorf("%w: %d bytes, expected at least %d", errHeader, len(b), fixedSize+4)
	}
	if b[0] != version {
		return h, fmt.Errorf("%w: version %d, this program reads %d", errHeader, b[0], version)
	}
	if b[1]&^flagSkip != 0 {
		return h, fmt.Errorf("%w: unknown flags %#x", errHeader, b[1])
	}
	h.Skippable = b[1]&flagSkip != 0
	h.Algorithm = Algorithm(b[2])
	copy(h.Journal[:], b[3:])
	h.Number = binary.BigEndian.Uint64(b[19:])
	h.OccurredAt = int64(binary.BigEndian.Uint64(b[27:]))
	h.RecordedAt = int64(binary.BigEndian.Uint64(b[35:]))
	h.Kind = binary.BigEndian.Uint32(b[43:])
	copy(h.Digest[:], b[47:])
	rest := b[fixedSize:]
	var ok bool
	if h.Actor, rest, ok = cutString(rest, MaxActor); !ok {
		return h, fmt.Errorf("%w: actor", errHeader)
	}
	if h.Stream, rest, ok = cutString(rest, MaxStream); !ok {
		return h, fmt.Errorf("%w: stream", errHeader)
	}
	if len(rest) > maxExtensions {
		return h, fmt.Errorf("%w: %d bytes of extensions, at most %d are allowed", errHeader, len(rest), maxExtensions)
	}
	if len(rest) > 0 {
		h.Extensions = append([]byte(nil), rest...)
	}
	return h, nil
}

func cutString(b []byte, most int) (string, []byte, bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > most || len(b) < 2+n || !utf8.Valid(b[2:2+n]) {
		return "", nil, false
	}
	return string(b[2 : 2+n]), b[2+n:], true
}

// NewSalt draws a salt.
func NewSalt() []byte {
	salt := make([]byte, SaltSize)
	if _, err := io.ReadFull(rand.Reader, salt); err != nil {
		panic(err) // crypto/rand does not fail on supported systems
	}
	return salt
}

// Digest is SHA-256 over salt, then payload.
func Digest(salt, payload []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(payload)
	return [sha256.Size]byte(h.Sum(nil))
}

// LeafHash is the RFC 6962 hash of a header's bytes.
func LeafHash(raw []byte) tlog.Hash { return tlog.RecordHash(raw) }

// Open decodes an entry off a disk or a wire and checks its payload against the digest. The slices are kept, not
// copied.
func Open(raw, salt, payload []byte, erased bool) (Entry, error) {
	h, err := DecodeHeader(raw)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Header: h, Raw: raw, Salt: salt, Payload: payload, Erased: erased}
	return e, e.check()
}

func (e *Entry) check() error {
	switch {
	case e.Algorithm != SHA256:
		return fmt.Errorf("journal %s entry %d: digest algorithm %d, this program reads %d", e.Journal, e.Number, e.Algorithm, SHA256)
	case e.Erased && (len(e.Salt) > 0 || len(e.Payload) > 0):
		return fmt.Errorf("journal %s entry %d: erased, and yet has a payload", e.Journal, e.Number)
	case e.Erased:
		return nil
	case len(e.Salt) != SaltSize:
		return fmt.Errorf("journal %s entry %d: salt of %d bytes, expected %d", e.Journal, e.Number, len(e.Salt), SaltSize)
	case len(e.Payload) > MaxPayload:
		return fmt.Errorf("journal %s entry %d: payload of %d bytes, at most %d are allowed", e.Journal, e.Number, len(e.Payload), MaxPayload)
	case Digest(e.Salt, e.Payload) != e.Digest:
		return fmt.Errorf("journal %s entry %d: payload does not match the digest in its header", e.Journal, e.Number)
	}
	return nil
}
