package alert

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"duban.internal/node/fault"
	"duban.internal/node/identity"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

// Bounds of what people write, in bytes.
const (
	MaxText = 16 << 10 // explanation, reason
	MaxName = 256      // handled_by, disputed_by
)

// Desk is the node at which an office acts: its jurisdiction, and the profile that it judges by.
type Desk struct {
	Code    string
	Profile *profile.Profile
}

// Handling is what an office asks for. Round 0 is the present one, Level 0 the open one that the caller may handle.
type Handling struct {
	Round, Level uint32
	Action       string
	Explanation  string
	HandledBy    string
}

// DecideHandling decides a handling by a caller at a time (T27: the body that receives a level handles it).
//
// Kinds: fault.Invalid with every field at fault; NotFound for a level that this node knows nothing of; Denied for a
// caller who doesn't receive it; Precondition where it was handled before. After the due time, or once the next level is
// open, the handling is kept as late, unless the level is the last.
func (a *Alert) DecideHandling(h Handling, by identity.Identity, d Desk, now int64) (*dubanv1.LevelHandled, error) {
	var bad fault.List
	text(&bad, "explanation", h.Explanation, MaxText)
	text(&bad, "handled_by", h.HandledBy, MaxName)
	if d.Profile.Action(h.Action) == nil {
		bad.Add("action", "%.64q: want one of %s", h.Action, strings.Join(actions(d.Profile), ", "))
	}
	if err := bad.Err(fault.Invalid, "the handling is not complete"); err != nil {
		return nil, err
	}
	l, err := a.wanted(h.Round, h.Level, by, d)
	if err != nil {
		return nil, err
	}
	if err := d.may(by, l.Opening.GetRole(), l.Opening.GetReceiver(), l.Opening.GetAgency(), "handle"); err != nil {
		return nil, err
	}
	if l.HandledAt != 0 {
		return nil, fault.Refuse(fault.Precondition, "this level was handled before", fault.Field{
			Field:       "level",
			Description: fmt.Sprintf("level %d of round %d was handled by %s: a level is handled once", l.Step(), l.Round(), l.HandledBy),
		})
	}
	if l.Withdrawn() {
		return nil, fault.Refuse(fault.Precondition, "this level was withdrawn", fault.Field{
			Field:       "level",
			Description: fmt.Sprintf("level %d of round %d was withdrawn: there is nothing to handle, unless it is opened again", l.Step(), l.Round()),
		})
	}
	above := a.Top().Round() > l.Round() || a.Top().Step() > l.Step()
	return &dubanv1.LevelHandled{
		AlertId: a.ID, Round: l.Round(), Level: l.Step(),
		Action: h.Action, Explanation: h.Explanation, HandledBy: h.HandledBy,
		Late: above || HandledLate(false, l.Opening.GetLast(), l.DueAt(), now),
	}, nil
}

// wanted is the level that a request means.
func (a *Alert) wanted(round, level uint32, by identity.Identity, d Desk) (*Level, error) {
	top := a.Top()
	if top == nil {
		return nil, fault.New(fault.NotFound, "alert %s: no level of it is known here", a.ID)
	}
	if round == 0 {
		round = top.Round()
	}
	if level != 0 {
		if l := a.Level(round, level); l != nil {
			return l, nil
		}
		return nil, fault.Refuse(fault.NotFound, "this level is not open", fault.Field{
			Field: "level",
			Description: fmt.Sprintf("level %d of round %d is not known here; the highest is level %d of round %d",
				level, round, top.Step(), top.Round()),
		})
	}
	var mine *Level
	for i := range a.Levels {
		l := &a.Levels[i]
		if l.Round() == round && d.may(by, l.Opening.GetRole(), l.Opening.GetReceiver(), l.Opening.GetAgency(), "handle") == nil && (mine == nil || l.HandledAt == 0) {
			mine = l
		}
	}
	if mine == nil {
		return top, nil // the check of the caller says who may
	}
	return mine, nil
}

// DecideDispute decides whether the office of the next level may dispute the handling of the top level, which then starts a
// new round. next is the opening that Site.Next would write after it at this node, or nil where another node's office
// receives it.
//
// Kinds: fault.Invalid with every field at fault; Precondition where there is no handling in time to dispute, where the
// last level handled it, or where it was disputed before; Denied for anyone but the office of the next level.
func (a *Alert) DecideDispute(reason, disputedBy string, by identity.Identity, d Desk, next *dubanv1.LevelOpened) (*dubanv1.LevelDisputed, error) {
	var bad fault.List
	text(&bad, "reason", reason, MaxText)
	text(&bad, "disputed_by", disputedBy, MaxName)
	if err := bad.Err(fault.Invalid, "the dispute is not complete"); err != nil {
		return nil, err
	}
	top := a.Top()
	if top == nil {
		return nil, fault.New(fault.NotFound, "alert %s: no level of it is known here", a.ID)
	}
	refuse := func(why string) error {
		return fault.Refuse(fault.Precondition, "there is nothing to dispute", fault.Field{
			Field:       "alert_id",
			Description: fmt.Sprintf("level %d of round %d %s", top.Step(), top.Round(), why),
		})
	}
	switch {
	case top.Dispute != nil:
		return nil, refuse("was disputed before; a new round runs")
	case top.Withdrawn():
		return nil, refuse("was withdrawn; where that was only claimed, its office may open it again")
	case top.HandledAt == 0:
		return nil, refuse("was not handled: only a handling can be disputed")
	case top.Late:
		return nil, refuse("was handled late, which closed nothing: the next level opens")
	case top.Opening.GetLast():
		return nil, refuse("is the last: no office above it could dispute its handling")
	case next == nil:
		return nil, fault.New(fault.Denied, "only the office that would receive level %d may dispute this handling, and it is not at this node (%s)", top.Step()+1, d.Code)
	}
	if err := d.may(by, next.GetRole(), next.GetReceiver(), next.GetAgency(), "dispute"); err != nil {
		return nil, err
	}
	return &dubanv1.LevelDisputed{AlertId: a.ID, Round: top.Round(), Level: top.Step(), Reason: reason, DisputedBy: disputedBy}, nil
}

// DecideReopen decides whether the office that received a level opens it again after it was withdrawn on the word of a
// journal alone. The limit is counted anew, from the start that limit is asked with.
//
// Kinds: fault.Invalid with every field at fault; Precondition where no level of the last round was withdrawn so, or it
// was opened again or handled before; Denied for anyone but the office that received it.
func (a *Alert) DecideReopen(reason, reopenedBy string, by identity.Identity, d Desk, limit func(o *dubanv1.LevelOpened) (Rung, bool), now int64) (*dubanv1.LevelReopened, error) {
	var bad fault.List
	text(&bad, "reason", reason, MaxText)
	text(&bad, "reopened_by", reopenedBy, MaxName)
	if err := bad.Err(fault.Invalid, "the reopening is not complete"); err != nil {
		return nil, err
	}
	refuse := func(why string) error {
		return fault.Refuse(fault.Precondition, "there is nothing to open again", fault.Field{Field: "alert_id", Description: why})
	}
	var claimed *Level
	for i := range a.Levels {
		l := &a.Levels[i]
		if l.Withdrawn() && l.Withdrawal.GetBasis() == dubanv1.Basis_BASIS_CLAIMED && l.Round() == a.Top().Round() &&
			(claimed == nil || d.may(by, l.Opening.GetRole(), l.Opening.GetReceiver(), l.Opening.GetAgency(), "reopen") == nil) {
			claimed = l
		}
	}
	if claimed == nil {
		return nil, refuse("no level of its last round is withdrawn as claimed: what was witnessed stands, and a level is opened again once")
	}
	if err := d.may(by, claimed.Opening.GetRole(), claimed.Opening.GetReceiver(), claimed.Opening.GetAgency(), "reopen"); err != nil {
		return nil, err
	}
	if claimed.HandledAt != 0 {
		return nil, refuse(fmt.Sprintf("level %d of round %d was handled before it was withdrawn", claimed.Step(), claimed.Round()))
	}
	r, ok := limit(claimed.Opening)
	if !ok {
		return nil, refuse(fmt.Sprintf("the present profile has no level %d for a %s", claimed.Step(), claimed.Opening.GetTier()))
	}
	return &dubanv1.LevelReopened{
		AlertId: a.ID, Round: claimed.Round(), Level: claimed.Step(), Reason: reason, ReopenedBy: reopenedBy,
		StartUs: now, DueUs: r.DueAt, OpenEndedYear: r.OpenEndedYear,
	}, nil
}

// may says whether a caller is the body of a role that receives a level: the acting agency for a role within an agency,
// the office of the receiving jurisdiction for any other, and only at that jurisdiction's node.
func (d Desk) may(by identity.Identity, role, receiver, agency, verb string) error {
	want := identity.Identity{City: by.City, Kind: identity.Office, Role: role, Code: jurisdiction.Code(receiver)}
	if r := d.Profile.Role(role); r != nil && r.Of == OfAgency {
		want = identity.Identity{City: by.City, Kind: identity.Agency, ID: agency}
	}
	if by == want && receiver == d.Code {
		return nil
	}
	return fault.New(fault.Denied, "%s may not %s this level: only %s may, at the node of %s", by.Actor(), verb, want.Actor(), receiver)
}

// OfAgency is what profile.Role.Of says of a body within an agency.
const OfAgency = "agency"

func text(bad *fault.List, field, s string, most int) {
	switch {
	case strings.TrimSpace(s) == "":
		bad.Add(field, "is empty: want 1 to %d bytes of text", most)
	case len(s) > most:
		bad.Add(field, "%d bytes: want at most %d", len(s), most)
	case !utf8.ValidString(s):
		bad.Add(field, "want UTF-8")
	}
}

func actions(p *profile.Profile) []string {
	names := make([]string, len(p.Actions))
	for i, a := range p.Actions {
		names[i] = a.Name
	}
	return names
}
