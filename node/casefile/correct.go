package casefile

import (
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	dubanv1 "duban.internal/proto/duban/v1"
)

// What may be corrected in each kind of record, for messages.
const (
	openingPaths     = "number, item, source, summary, handler, party.name, party.kind, party.credit_code, fields.NAME"
	stagePaths       = "completed_us, officers (ids with commas), handler, opinion.result, opinion.reason, documents[N].name, documents[N].code, documents[N].sha256, late_reason, fields.NAME"
	evidencePaths    = "stage, name, media_type"
	explanationPaths = "stage, subject, text"
)

// set changes one field of a record; it gives what is wrong, empty where nothing is.
func set(m proto.Message, path, value string) string {
	switch m := m.(type) {
	case *dubanv1.CaseOpened:
		return setOpening(m, path, value)
	case *dubanv1.StageRecorded:
		return setStage(m, path, value)
	case *dubanv1.EvidenceAttached:
		return setText(map[string]*string{"stage": &m.Stage, "name": &m.Name, "media_type": &m.MediaType}, path, value, evidencePaths)
	case *dubanv1.ExplanationGiven:
		return setText(map[string]*string{"stage": &m.Stage, "subject": &m.Subject, "text": &m.Text}, path, value, explanationPaths)
	}
	return "a record of this kind is not corrected"
}

func setText(fields map[string]*string, path, value, allowed string) string {
	field, ok := fields[path]
	if !ok {
		return "cannot be corrected here; allowed are " + allowed
	}
	*field = value
	return ""
}

func setMap(m *map[string]string, name, value string) string {
	if *m == nil {
		*m = make(map[string]string)
	}
	if value == "" {
		delete(*m, name)
	} else {
		(*m)[name] = value
	}
	return ""
}

func setOpening(c *dubanv1.CaseOpened, path, value string) string {
	if name, ok := strings.CutPrefix(path, "fields."); ok {
		return setMap(&c.Fields, name, value)
	}
	fields := map[string]*string{
		"number": &c.Number, "item": &c.Item, "source": &c.Source, "summary": &c.Summary, "handler": &c.Handler,
	}
	if strings.HasPrefix(path, "party.") {
		if c.Party == nil {
			c.Party = &dubanv1.Party{}
		}
		fields["party.name"], fields["party.kind"], fields["party.credit_code"] = &c.Party.Name, &c.Party.Kind, &c.Party.CreditCode
	}
	return setText(fields, path, value, openingPaths)
}

var documentPath = regexp.MustCompile(`^documents\[(0|[1-9][0-9]?)\]\.(name|code|sha256)$`)

func setStage(s *dubanv1.StageRecorded, path, value string) string {
	if name, ok := strings.CutPrefix(path, "fields."); ok {
		return setMap(&s.Fields, name, value)
	}
	if part := documentPath.FindStringSubmatch(path); part != nil {
		return setDocument(s, part[1], part[2], value)
	}
	fields := map[string]*string{"handler": &s.Handler, "late_reason": &s.LateReason}
	switch path {
	case "completed_us":
		us, ok := instant(value)
		if !ok {
			return "want a time such as 2026-03-02T09:00:00+08:00, or microseconds since 1970"
		}
		s.CompletedUs = us
		return ""
	case "officers":
		s.Officers = nil
		for id := range strings.SplitSeq(value, ",") {
			if id = strings.TrimSpace(id); id != "" {
				s.Officers = append(s.Officers, id)
			}
		}
		return ""
	case "opinion.result", "opinion.reason":
		if s.Opinion == nil {
			s.Opinion = &dubanv1.Opinion{}
		}
		fields["opinion.result"], fields["opinion.reason"] = &s.Opinion.Result, &s.Opinion.Reason
	}
	return setText(fields, path, value, stagePaths)
}

// setDocument changes a document, or adds one at the end.
func setDocument(s *dubanv1.StageRecorded, number, field, value string) string {
	i, _ := strconv.Atoi(number) // two digits at most, by documentPath
	switch {
	case i > len(s.Documents):
		return "there are " + strconv.Itoa(len(s.Documents)) + " documents; the next has that number"
	case i == len(s.Documents):
		s.Documents = append(s.Documents, &dubanv1.Document{})
	}
	d := s.Documents[i]
	switch field {
	case "name":
		d.Name = value
	case "code":
		d.Code = value
	case "sha256":
		sha, err := hex.DecodeString(value)
		if err != nil || len(sha) != sha256Size && len(sha) != 0 {
			return "want the 64 hexadecimal digits of a SHA-256"
		}
		d.Sha256 = sha
	}
	return ""
}

// instant reads a time in a correction.
func instant(value string) (us int64, ok bool) {
	if t, err := time.Parse(time.RFC3339, value); err == nil {
		return t.UnixMicro(), true
	}
	us, err := strconv.ParseInt(value, 10, 64)
	return us, err == nil
}
