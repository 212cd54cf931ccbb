package casefile

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"duban.internal/node/fault"
	"duban.internal/node/profile"
	dubanv1 "duban.internal/proto/duban/v1"
)

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

const idWanted = "want 1 to 64 letters, digits, - or _"

// called is a name with its title and article, as far as there are any: notice (处罚告知, P44).
func called(name string, more ...string) string {
	var known []string
	for _, m := range more {
		if m != "" && m != name {
			known = append(known, m)
		}
	}
	if len(known) == 0 {
		return name
	}
	return name + " (" + strings.Join(known, ", ") + ")"
}

func stageCalled(pr *profile.Procedure, name string) string {
	if s := pr.Stage(name); s != nil {
		return called(name, s.Title)
	}
	return name
}

// listed is a sentence's end that says what is allowed.
func listed[T any](all []T, of func(*T) string) string {
	if len(all) == 0 {
		return "none"
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = of(&all[i])
	}
	return strings.Join(names, ", ")
}

// short is for text of others in a message.
func short(s string) string {
	const most = 80
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%q...", s[:cut])
}

func bounded(l *fault.List, field, value string, most int) {
	if len(value) > most {
		l.Add(field, "%d bytes, at most %d are allowed", len(value), most)
	}
}

func required(l *fault.List, field, value string, most int, what string) {
	if blank(value) {
		l.Add(field, "missing: %s", what)
		return
	}
	bounded(l, field, value, most)
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

func stamp(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05Z07:00") }

// notAhead refuses a stated time that has not come yet.
func notAhead(l *fault.List, field string, us int64, f *Facts, now time.Time) {
	if most := now.Add(f.Ahead).UnixMicro(); us > most {
		l.Add(field, "%s is in the future; here it is %s", stamp(us), stamp(now.UnixMicro()))
	}
}

// person checks that an officer may act for an agency at a time (N-3(2)2, T10).
func person(l *fault.List, field, id, agency string, actedAt int64, f *Facts) {
	o := f.officer(id)
	switch {
	case o == nil:
		l.Add(field, "officer %s is not registered here", short(id))
	case o.GetAgency() != agency:
		l.Add(field, "officer %s belongs to agency %s, not to %s, which acts in this case", id, o.GetAgency(), agency)
	case !certified(o, actedAt):
		l.Add(field, "the certificate %s (执法证件) of officer %s is not valid at %s: it runs %s", short(o.GetCertificate()), id, stamp(actedAt), validity(o))
	}
}

func certified(o *dubanv1.Officer, at int64) bool {
	return at >= o.GetValidFromUs() && (o.GetValidUntilUs() == 0 || at < o.GetValidUntilUs())
}

func validity(o *dubanv1.Officer) string {
	from, until := "without a beginning", "without end"
	if us := o.GetValidFromUs(); us != 0 {
		from = "from " + stamp(us)
	}
	if us := o.GetValidUntilUs(); us != 0 {
		until = "until before " + stamp(us)
	}
	return from + ", " + until
}
