package journal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Bounds of a checkpoint.
const (
	MaxCheckpoint = 8 << 10   // bytes of a signed checkpoint, countersignatures and all
	MaxSize       = 1<<62 - 1 // entries of a journal
	originPrefix  = "duban.internal/journal/"
	timeLayout    = "2006-01-02T15:04:05.000000Z"
)

// Checkpoint is what a journal's key signs: these many entries have this root, and no later one is recorded before Time.
type Checkpoint struct {
	Journal ID
	Size    uint64
	Root    tlog.Hash
	Time    int64 // microseconds
}

// Origin is the first line of a journal's checkpoints and the name of its key.
func Origin(id ID) string { return originPrefix + id.String() }

// Text is the body that is signed.
func (c Checkpoint) Text() string {
	return Origin(c.Journal) + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) +
		"\ntime " + time.UnixMicro(c.Time).UTC().Format(timeLayout) + "\n"
}

var errCheckpoint = errors.New("journal: malformed checkpoint")

// parseText reads what Text writes and nothing else.
func parseText(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 5 || lines[4] != "" {
		return c, fmt.Errorf("%w: expected four lines", errCheckpoint)
	}
	if c.Journal, err = parseOrigin(lines[0]); err != nil {
		return c, err
	}
	if c.Size, err = strconv.ParseUint(lines[1], 10, 64); err != nil || c.Size > MaxSize {
		return c, fmt.Errorf("%w: size %.30q", errCheckpoint, lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return c, fmt.Errorf("%w: root %.60q", errCheckpoint, lines[2])
	}
	c.Root = tlog.Hash(root)
	stated, ok := strings.CutPrefix(lines[3], "time ")
	at, err := time.Parse(timeLayout, stated)
	if !ok || err != nil {
		return c, fmt.Errorf("%w: time %.60q", errCheckpoint, lines[3])
	}
	c.Time = at.UnixMicro()
	if c.Text() != text {
		return c, fmt.Errorf("%w: not written as it is specified", errCheckpoint)
	}
	return c, nil
}

func parseOrigin(s string) (ID, error) {
	hex, ok := strings.CutPrefix(s, originPrefix)
	if !ok {
		return ID{}, fmt.Errorf("%w: origin %.80q, expected %s<journal id>", errCheckpoint, s, originPrefix)
	}
	return ParseID(hex)
}

// split takes the body and the signatures of a signed note apart.
func split(signed []byte) (text, signatures []byte, err error) {
	if len(signed) > MaxCheckpoint {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errCheckpoint, len(signed), MaxCheckpoint)
	}
	i := bytes.Index(signed, []byte("\n\n"))
	if i < 0 {
		return nil, nil, fmt.Errorf("%w: no signature", errCheckpoint)
	}
	return signed[:i+1], signed[i+2:], nil
}

// ParseCheckpoint reads a signed checkpoint without checking a signature: for looking at what is already trusted, or at
// evidence. To trust one, use PublicKey.Open.
func ParseCheckpoint(signed []byte) (Checkpoint, error) {
	text, _, err := split(signed)
	if err != nil {
		return Checkpoint{}, err
	}
	return parseText(string(text))
}

// Open verifies a checkpoint of the key's journal and reads it.
func (p *PublicKey) Open(signed []byte) (Checkpoint, error) {
	text, _, err := split(signed)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := parseText(string(text))
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Journal != p.journal {
		return Checkpoint{}, fmt.Errorf("journal: checkpoint of journal %s, expected one of %s", c.Journal, p.journal)
	}
	n, err := note.Open(signed, note.VerifierList(p.verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("journal %s: checkpoint of size %d: %w", p.journal, c.Size, err)
	}
	if n.Text != string(text) {
		return Checkpoint{}, fmt.Errorf("%w: text in doubt", errCheckpoint)
	}
	return c, nil
}

// Sign makes the signed checkpoint. The key must be that of c's journal.
func (k *Key) Sign(c Checkpoint) ([]byte, error) {
	if c.Journal != k.public.journal {
		return nil, fmt.Errorf("journal: the key of journal %s can't sign a checkpoint of %s", k.public.journal, c.Journal)
	}
	if c.Size > MaxSize {
		return nil, fmt.Errorf("journal: size %d", c.Size)
	}
	return note.Sign(&note.Note{Text: c.Text()}, k.signer)
}

// Countersign adds the key's signature as a witness, at the time given in microseconds (kept in whole seconds). The caller
// has verified signed and that it extends what was countersigned before.
func (k *Key) Countersign(signed []byte, at int64) ([]byte, error) {
	text, _, err := split(signed)
	if err != nil {
		return nil, err
	}
	line, err := k.cosign(text, at)
	if err != nil {
		return nil, err
	}
	out := append(bytes.Clone(signed), line...)
	if len(out) > MaxCheckpoint {
		return nil, fmt.Errorf("%w: too many signatures", errCheckpoint)
	}
	return out, nil
}

// Witnessed checks that the key countersigned a checkpoint and says when, in microseconds. Whose checkpoint it is and
// whether its own signature is good is for Open to say.
func (p *PublicKey) Witnessed(signed []byte) (at int64, err error) {
	text, _, err := split(signed)
	if err != nil {
		return 0, err
	}
	if _, err := parseText(string(text)); err != nil {
		return 0, err
	}
	w := &witness{public: p}
	if _, err := note.Open(signed, note.VerifierList(w)); err != nil {
		return 0, fmt.Errorf("journal %s: countersignature: %w", p.journal, err)
	}
	return w.at, nil
}
