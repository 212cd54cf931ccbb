// Package profile reads a regulation as data (规则包): procedures, the stages' requirements, alert points, limits,
// ladders and the names of roles, each number with the article that it comes from.
//
// A profile is a folder of YAML files (one is enough) that are merged, checked whole and content-addressed, so that an
// entry can name what it was judged by. Problems name file, line and field, all at once; an unknown key is a problem. The
// package judges nothing: node/casefile applies procedures, escalation/rule applies points and ladders and checks their
// conditions.
//
// # Merging
//
// Lists of several files are joined in the order of their paths; every other key stands in one file only. A file is UTF-8
// YAML without anchors, aliases, tags and several documents, at most 128 KiB (512 KiB in all), in lines of at most 600
// bytes, for a profile also arrives over the wire.
//
// # Hash
//
// The address is the SHA-256 over the files sorted by path, each as the length of its path (8 bytes, big endian), the
// path, the length of its content (8 bytes) and the content as it came.
package profile

import (
	"strings"

	"duban.internal/node/workday"
)

// Profile is one regulation as data.
type Profile struct {
	Name       string      `yaml:"name"`       // such as "tianjin"
	Title      string      `yaml:"title"`      // of the regulation
	Source     string      `yaml:"source"`     // what article letters mean, for people
	Roles      []Role      `yaml:"roles"`      // who acts and who receives
	Procedures []Procedure `yaml:"procedures"` // how a case goes
	Points     []Point     `yaml:"points"`     // what is watched
	Ladders    []Ladder    `yaml:"ladders"`    // whose turn it is, one for each tier
	Actions    []Action    `yaml:"actions"`    // what a receiver of a level may do
	// Corrections says who approves that what was collected is corrected (T14).
	Corrections Corrections `yaml:"corrections"`
	Subjects    []Subject   `yaml:"subjects"` // what an explanation may explain
	// Nodes watches the nodes below themselves; what is not there is not watched.
	Nodes []NodePoint `yaml:"nodes"`

	files []File
	hash  [32]byte
	lines map[string]position
}

// Corrections is the way of a correction (修改申请). Without a role nothing can be corrected.
type Corrections struct {
	Role    string `yaml:"role"` // who decides an application
	Article string `yaml:"article"`
}

// Role is a body or person by the regulation's name, such as the agency's legal unit.
type Role struct {
	Name  string `yaml:"name"`  // such as "legal_unit"
	Title string `yaml:"title"` // such as 机关法制机构
	// Of says where such a body belongs: "agency" (each agency has one) or "jurisdiction" (each jurisdiction has one).
	Of string `yaml:"of"`
}

// Action is what a receiver may do with a level (处理).
type Action struct {
	Name  string `yaml:"name"`
	Title string `yaml:"title"`
}

// Subject is what a handler may have to explain (说明理由).
type Subject struct {
	Name    string `yaml:"name"`
	Title   string `yaml:"title"`
	Article string `yaml:"article"`
}

// Procedure is the way of a kind of case.
type Procedure struct {
	Name    string  `yaml:"name"`  // such as "penalty_general"
	Title   string  `yaml:"title"` // such as 普通程序
	Act     string  `yaml:"act"`   // kind of act: "penalty", "inspection", ...
	Article string  `yaml:"article"`
	Stages  []Stage `yaml:"stages"`
	Opening Opening `yaml:"opening"`
	// Separate lists sets of hands that must belong to different officers within one case (N-3(3)2): no officer who was
	// one hand may be another of the same set.
	Separate [][]string `yaml:"separate"`
}

// Opening is what a case has to bring when it is opened (案源登记).
type Opening struct {
	Article string   `yaml:"article"`
	Item    bool     `yaml:"item"`    // an item code
	Party   bool     `yaml:"party"`   // name and kind of whom it is directed at
	Summary bool     `yaml:"summary"` // what happened
	Handler bool     `yaml:"handler"`
	Sources []Source `yaml:"sources"` // where a case may come from; empty for anything
	Fields  []Field  `yaml:"fields"`
}

// Source is where a case comes from (案源).
type Source struct {
	Name  string `yaml:"name"`
	Title string `yaml:"title"`
}

// Stage (环节) of a procedure.
type Stage struct {
	Name    string   `yaml:"name"`
	Title   string   `yaml:"title"`
	Article string   `yaml:"article"`
	First   bool     `yaml:"first"`   // a case may begin with it
	After   []string `yaml:"after"`   // stages one of which must be the last recorded one
	Needs   []string `yaml:"needs"`   // stages that must have been recorded before, at any time; see Need
	Repeat  bool     `yaml:"repeat"`  // may be recorded more than once
	Closes  bool     `yaml:"closes"`  // nothing follows
	Hand    string   `yaml:"hand"`    // whose hand: "handling", "review", "decision"; compared by Procedure.Separate
	Results []Result `yaml:"results"` // opinions that it may have; empty where none is asked for
	Require Require  `yaml:"require"`
}

// Result is an opinion that a stage may have.
type Result struct {
	Name   string `yaml:"name"`
	Title  string `yaml:"title"`
	Reason bool   `yaml:"reason"` // a reason is required with it (Z11, Z13)
	Next   string `yaml:"next"`   // the only stage that may follow this result; empty for any that After allows
	// Needs are stages that must have been recorded before a stage with this result.
	Needs []string `yaml:"needs"`
}

// Need is one of Stage.Needs or Result.Needs: "stage", or "stage/result" where its last record must have had that result.
type Need struct{ Stage, Result string }

// ParseNeed reads the text form.
func ParseNeed(s string) Need {
	stage, result, _ := strings.Cut(s, "/")
	return Need{Stage: stage, Result: result}
}

// Require is what a stage has to bring.
type Require struct {
	Officers  bool       `yaml:"officers"` // at least one registered officer of the agency (how many is watched, not gated)
	Handler   bool       `yaml:"handler"`
	Documents []Document `yaml:"documents"`
	Fields    []Field    `yaml:"fields"`
	Evidence  int        `yaml:"evidence"` // attachments that the case must have by then
}

// Document required by a stage.
type Document struct {
	Name    string   `yaml:"name"`
	Title   string   `yaml:"title"`
	Attach  bool     `yaml:"attach"` // its bytes must have been uploaded
	With    []string `yaml:"with"`   // results with which it is required; empty for all
	Article string   `yaml:"article"`
}

// Field required by a stage.
type Field struct {
	Name     string   `yaml:"name"`
	Title    string   `yaml:"title"`
	Type     string   `yaml:"type"` // "text", "date" (RFC 3339 or 2006-01-02), "number", "yesno"
	Optional bool     `yaml:"optional"`
	With     []string `yaml:"with"`   // results with which it is required; empty for all
	Values   []string `yaml:"values"` // the only values allowed; empty for any
	Article  string   `yaml:"article"`
}

// Trigger matches an event of a case: all that is given must hold.
type Trigger struct {
	On       string   `yaml:"on"`       // "case", "stage", "evidence", "explanation", "correction"
	Acts     []string `yaml:"acts"`     // kinds of act, by the procedures; empty for any
	Stages   []string `yaml:"stages"`   // stages that the event names; empty for any
	Subjects []string `yaml:"subjects"` // what an explanation explains; empty for any
	When     string   `yaml:"when"`     // CEL, see escalation/rule; empty for always
}

// Point is an alert point (预警点).
//
// Without a Limit it fires as soon as Start matches. With a Limit and Judged "arrival" it fires when Start matches an
// event that was recorded after its limit, counted from From, had passed. With a Limit and Judged "timer" its limit
// begins with Start and, unless one of End matches first, it fires when the limit has passed.
type Point struct {
	Name    string        `yaml:"name"`
	Title   string        `yaml:"title"`
	Article string        `yaml:"article"`
	Grade   string        `yaml:"grade"` // "red" or "yellow"
	Start   Trigger       `yaml:"start"`
	End     []Trigger     `yaml:"end"`
	Limit   workday.Limit `yaml:"limit"`
	From    string        `yaml:"from"`   // time the limit counts from: "completed" (default, as stated) or "recorded"
	Judged  string        `yaml:"judged"` // "timer" or "arrival"
	Warn    workday.Limit `yaml:"warn"`   // a yellow card this long before the limit ends; zero for none
	// WarnArticle is where the card comes from, and WarnOwn says that how long before is the profile's own choice.
	WarnArticle string `yaml:"warn_article"`
	WarnOwn     bool   `yaml:"warn_own_choice"`
	Own         bool   `yaml:"own_choice"` // the regulation names no number: this one is the profile's own choice
	Text        string `yaml:"text"`       // sentence for people; {case}, {stage}, {limit}, {due} are filled in
}

// NodePoint is an alert point about a node below rather than a case. Its parent opens level 1, with the limit counted from
// then, and the alert is withdrawn when its cause ends.
type NodePoint struct {
	Name    string `yaml:"name"`
	Title   string `yaml:"title"`
	Article string `yaml:"article"`
	Own     bool   `yaml:"own_choice"` // that such a thing is an alert is this profile's own choice
	Grade   string `yaml:"grade"`
	// On is what happens: "silent" (沉默), nothing was heard of the node for the configured time; "stopped", its journal has
	// an entry that this node's version doesn't know, so that nothing can be concluded from it; "refused", its journal
	// contradicts what was signed before, and nothing more of it is taken until people have settled that.
	On   string `yaml:"on"`
	Text string `yaml:"text"` // sentence for people; {node} and {since} are filled in
	// Ladders say who handles which level, by the tier of the node that it is about; every level is above it.
	Ladders []Ladder `yaml:"ladders"`
}

// Ladder says who handles which level, for agencies of one tier (T27).
type Ladder struct {
	Tier    string  `yaml:"tier"` // of the acting agency's jurisdiction
	Article string  `yaml:"article"`
	Levels  []Level `yaml:"levels"`
}

// Level of a ladder. Either an article states its limit, or the limit is the profile's own choice.
type Level struct {
	Role    string        `yaml:"role"`
	At      string        `yaml:"at"`    // tier of the jurisdiction whose body it is: the agency's own or an ancestor's
	Limit   workday.Limit `yaml:"limit"` // to handle it
	Article string        `yaml:"article"`
	Own     bool          `yaml:"own_choice"`
}
