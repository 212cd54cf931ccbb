package journal

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key signs the checkpoints of one journal and, as a witness, countersigns those of others.
type Key struct {
	private ed25519.PrivateKey
	signer  note.Signer
	public  *PublicKey
}

// PublicKey verifies what Key signed.
type PublicKey struct {
	journal  ID
	text     string
	key      ed25519.PublicKey
	verifier note.Verifier
	witness  uint32 // key hash of countersignatures
	verify   func(key ed25519.PublicKey, message, sig []byte) bool
}

// VerifyBy has signatures verified by a function that says what ed25519.Verify says: one that remembers, where the same
// ones come again and again. To be called before the key is used.
func (p *PublicKey) VerifyBy(verify func(key ed25519.PublicKey, message, sig []byte) bool) {
	p.verify, p.verifier = verify, &plain{Verifier: p.verifier, public: p}
}

// plain is the note.Verifier of a key's own signature.
type plain struct {
	note.Verifier
	public *PublicKey
}

// Verify is note.Verifier.
func (v *plain) Verify(text, sig []byte) bool { return v.public.verify(v.public.key, text, sig) }

// Key types of C2SP signed notes.
const (
	typeEd25519     = 1
	typeCosignature = 4
)

// GenerateKey draws the key of a journal; both halves are in the note format, "PRIVATE+KEY+..." and "name+hash+key".
func GenerateKey(id ID) (private, public string, err error) {
	return note.GenerateKey(rand.Reader, Origin(id))
}

// ParsePublicKey reads the public half of a journal's key.
func ParsePublicKey(s string) (*PublicKey, error) {
	s = strings.TrimSpace(s)
	verifier, err := note.NewVerifier(s)
	if err != nil {
		return nil, fmt.Errorf("journal: verifier key: %w", err)
	}
	id, err := parseOrigin(verifier.Name())
	if err != nil {
		return nil, err
	}
	if Origin(id) != verifier.Name() {
		return nil, fmt.Errorf("journal: verifier key: name %q, expected %q", verifier.Name(), Origin(id))
	}
	// NewVerifier has checked the form: name+hash+key. The key's base64 may have a + of its own.
	key, err := base64.StdEncoding.DecodeString(strings.SplitN(s, "+", 3)[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != typeEd25519 {
		return nil, fmt.Errorf("journal: verifier key: expected an Ed25519 key")
	}
	p := &PublicKey{journal: id, text: s, key: ed25519.PublicKey(key[1:]), verifier: verifier, verify: ed25519.Verify}
	hash := sha256.New()
	hash.Write([]byte(verifier.Name() + "\n"))
	hash.Write([]byte{typeCosignature})
	hash.Write(p.key)
	p.witness = binary.BigEndian.Uint32(hash.Sum(nil))
	return p, nil
}

// ParseKey reads the private half of a journal's key.
func ParseKey(s string) (*Key, error) {
	s = strings.TrimSpace(s)
	signer, err := note.NewSigner(s)
	if err != nil {
		return nil, fmt.Errorf("journal: signing key: %w", err)
	}
	fields := strings.SplitN(s, "+", 5) // PRIVATE, KEY, name, hash, key
	seed, err := base64.StdEncoding.DecodeString(fields[len(fields)-1])
	if err != nil || len(seed) != 1+ed25519.SeedSize || seed[0] != typeEd25519 {
		return nil, fmt.Errorf("journal: signing key: expected an Ed25519 key")
	}
	k := &Key{signer: signer, private: ed25519.NewKeyFromSeed(seed[1:])}
	text, err := note.NewEd25519VerifierKey(signer.Name(), k.private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	k.public, err = ParsePublicKey(text)
	return k, err
}

// Public is the other half.
func (k *Key) Public() *PublicKey { return k.public }

// Journal is the journal whose key it is.
func (p *PublicKey) Journal() ID { return p.journal }

// String is the key in the note format, "name+hash+key".
func (p *PublicKey) String() string { return p.text }

// cosign makes the signature line of a countersignature over the body of a checkpoint.
func (k *Key) cosign(text []byte, at int64) ([]byte, error) {
	if at < 0 {
		return nil, fmt.Errorf("journal: countersignature at %d", at)
	}
	seconds := uint64(at / 1e6)
	blob := binary.BigEndian.AppendUint32(nil, k.public.witness)
	blob = binary.BigEndian.AppendUint64(blob, seconds)
	blob = append(blob, ed25519.Sign(k.private, cosigned(seconds, text))...)
	return []byte("— " + k.signer.Name() + " " + base64.StdEncoding.EncodeToString(blob) + "\n"), nil
}

func cosigned(seconds uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(seconds, 10)+"\n"), text...)
}

// witness is the note.Verifier of one countersignature; it keeps the time that it verified.
type witness struct {
	public *PublicKey
	at     int64
}

func (w *witness) Name() string    { return w.public.verifier.Name() }
func (w *witness) KeyHash() uint32 { return w.public.witness }

func (w *witness) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(sig)
	if seconds > 1<<40 || !w.public.verify(w.public.key, cosigned(seconds, text), sig[8:]) {
		return false
	}
	w.at = int64(seconds) * 1e6
	return true
}
