// Package casefile says whether a record may be added to a case: it is the gate in front of the journal.
//
// Every check is a pure function of the profile, what is known of the case (State), what the caller looked up (Facts), the
// record and the time. It says everything that is missing or wrong at once, by field path (stage.officers[1],
// stage.fields.filed_on), with what is allowed and the article. An empty list means that the record may be added as it is.
//
// It knows no store, no caller and no regulation: who may speak for an agency is node/access's, which stages there are and
// what they need is the profile's. It does not judge what is late or suspicious but lawful to record: that is
// escalation/rule's, after the record was taken.
package casefile

import (
	"time"

	dubanv1 "duban.internal/proto/duban/v1"
)

// Bounds of a record, so that a gate's and a rule's cost is bounded too. Lengths are in bytes.
const (
	MaxOfficers  = 64
	MaxDocuments = 64
	MaxFields    = 128
	MaxValue     = 4 << 10  // of a field, a name or a number
	MaxText      = 64 << 10 // of a summary, a reason or an explanation
	MaxChanges   = 64       // of a correction
)

// Facts are what a check needs to know beside the case; the caller looks it up before. A nil function knows nothing.
type Facts struct {
	// Agency is the acting agency as registered; nil where it is not.
	Agency *dubanv1.Agency
	// Officer gives an officer as registered, of whatever agency; nil where there is none.
	Officer func(id string) *dubanv1.Officer
	// Uploaded says whether an attachment's bytes are durable here.
	Uploaded func(sha256 []byte) bool
	// Ahead is how far a stated time may be ahead of now, for clocks that differ.
	Ahead time.Duration
	// History says that the caller may bring imported history, which opens no levels.
	History bool
}

func (f *Facts) officer(id string) *dubanv1.Officer {
	if f.Officer == nil {
		return nil
	}
	return f.Officer(id)
}

func (f *Facts) uploaded(sha256 []byte) bool { return f.Uploaded != nil && f.Uploaded(sha256) }
