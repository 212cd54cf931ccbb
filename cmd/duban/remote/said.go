package remote

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"duban.internal/cmd/duban/show"
	"duban.internal/node/clock"
	"duban.internal/node/fault"
)

// said puts a node's error into the command's terms: flags and arguments for fields of messages, Shanghai's time for
// people, and where what was asked may have been recorded all the same, how to find out without recording it twice.
func (t *talk) said(err error) error {
	if err == nil {
		return nil
	}
	out := &fault.Error{Kind: fault.Of(err), Msg: err.Error(), Err: err}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		out.Msg = t.local(e.Msg)
		for _, f := range e.Fields {
			out.Fields = append(out.Fields, fault.Field{Field: t.flag(f.Field), Description: t.local(f.Description)})
		}
	}
	if t.request != "" && unsure(err) {
		flags := append([]string{"--request-id " + t.request}, t.again...)
		out.Fields = append(out.Fields, fault.Field{Field: "--request-id", Description: "whether it was recorded is not known: " +
			"run the same command again with " + strings.Join(flags, " ") + ", and it is recorded once"})
	}
	return out
}

// unsure says whether what was asked may have been done although the answer is an error.
func unsure(err error) bool {
	if strings.Contains(err.Error(), "Error while dialing") { // it was never sent
		return false
	}
	switch fault.Of(err) {
	case fault.Unavailable, fault.NotLeader, fault.Internal:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// same notes a flag that a repeated command has to give, where its value was not given but made.
func (t *talk) same(flag, value string) { t.again = append(t.again, "--"+flag+" "+value) }

// arguments are fields that commands take as arguments, by the names in their usage.
var arguments = map[string]string{
	"case.case_id": "CASE", "stage.case_id": "CASE", "evidence.case_id": "CASE", "explanation.case_id": "CASE",
	"correction.case_id": "CASE", "decision.case_id": "CASE", "case_id": "CASE", "stage.stage": "STAGE",
	"evidence.sha256": "FILE", "evidence.size": "FILE", "sha256": "FILE", "size": "FILE", "decision.correction_id": "CORRECTION",
	"agency.id": "ID", "officer.id": "ID", "office.role": "ROLE", "office.jurisdiction": "JURISDICTION", "alert_id": "ALERT",
	"certificate": "--identity", "ca": "--ca",
}

// flags are fields whose flag has another name.
var flags = map[string]string{
	"completed_us": "completed", "occurred_us": "occurred", "valid_from_us": "valid-from", "valid_until_us": "valid-until",
	"opinion.result": "result", "opinion.reason": "reason", "officers": "officer", "documents": "document", "fields": "field",
	"items": "item", "changes": "change", "party": "party-name", "party.name": "party-name", "party.kind": "party-kind",
	"party.credit_code": "credit-code", "handled_by": "by", "disputed_by": "by", "reopened_by": "by", "decided_by": "by",
	"accepted_by": "by", "correction_id": "id", "legal_unit_vacant": "no-legal-unit", "jurisdiction": "in",
}

var (
	indexed = regexp.MustCompile(`^([a-z_.]+)\[(\d+)\](?:\.([a-z_0-9]+))?$`)
	utc     = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
)

// flag is the flag or argument of this command that gave a field; the field itself where none did.
func (t *talk) flag(field string) string {
	if name, ok := arguments[field]; ok {
		return name
	}
	rest := field
	for _, of := range []string{"case.", "stage.", "evidence.", "explanation.", "correction.", "decision.", "agency.", "officer.", "office."} {
		if cut, ok := strings.CutPrefix(field, of); ok {
			rest = cut
			break
		}
	}
	detail := ""
	if m := indexed.FindStringSubmatch(rest); m != nil { // stage.documents[0].code: of the first --document
		n, _ := strconv.Atoi(m[2])
		rest, detail = m[1], fmt.Sprintf(" (%s)", strings.TrimSpace(ordinal(n+1)+" "+m[3]))
	} else if of, name, ok := strings.Cut(rest, "."); ok && (of == "fields" || of == "changes") {
		rest, detail = of, " "+name
	}
	for _, name := range []string{flags[rest], strings.ReplaceAll(rest, "_", "-")} {
		if name != "" && t.cmd.Flags().Lookup(name) != nil {
			return "--" + name + detail
		}
	}
	return field
}

func ordinal(n int) string {
	switch n {
	case 1:
		return "1st"
	case 2:
		return "2nd"
	case 3:
		return "3rd"
	}
	return strconv.Itoa(n) + "th"
}

// local writes the times of a sentence as everything else that people read; programs get what the node said.
func (t *talk) local(s string) string {
	if t.json {
		return s
	}
	return utc.ReplaceAllStringFunc(s, func(stamp string) string {
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			return stamp
		}
		return show.Time(clock.Micros(at))
	})
}
