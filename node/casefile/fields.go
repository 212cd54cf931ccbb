package casefile

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"duban.internal/node/fault"
	"duban.internal/node/profile"
)

// checkFields holds fields against the profile's list. result decides which are required.
func checkFields(l *fault.List, path string, wanted []profile.Field, given map[string]string, result string) {
	if len(given) > MaxFields {
		l.Add(path, "%d fields, at most %d are allowed", len(given), MaxFields)
		return
	}
	known := 0
	for i := range wanted {
		f := &wanted[i]
		value, ok := given[f.Name]
		if ok {
			known++
		}
		switch {
		case !ok || blank(value):
			if !f.Optional && applies(f.With, result) {
				l.Add(path+"."+f.Name, "missing: %s; want %s", called(f.Name, f.Title, f.Article), wantedValue(f))
			}
		case len(value) > MaxValue:
			l.Add(path+"."+f.Name, "%d bytes, at most %d are allowed", len(value), MaxValue)
		case !validValue(f, value):
			l.Add(path+"."+f.Name, "%s is not allowed for %s; want %s", short(value), called(f.Name, f.Title), wantedValue(f))
		}
	}
	if len(given) == known {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.ContainsFunc(wanted, func(f profile.Field) bool { return f.Name == name }) {
			l.Add(path+"."+printable(name), "no such field here; allowed are %s", listed(wanted, func(f *profile.Field) string { return f.Name }))
		}
	}
}

// applies says whether a requirement that is bound to results is asked for with this one.
func applies(with []string, result string) bool {
	return len(with) == 0 || slices.Contains(with, result)
}

// printable keeps a name of others fit for a field path.
func printable(name string) string {
	if idForm.MatchString(name) {
		return name
	}
	return short(name)
}

func wantedValue(f *profile.Field) string {
	switch f.Type {
	case "date":
		return "a date such as 2026-03-02 or 2026-03-02T09:00:00+08:00"
	case "number":
		return "a number such as 2000 or 0.5"
	case "yesno":
		return "yes or no"
	}
	if len(f.Values) > 0 {
		return "one of " + strings.Join(f.Values, ", ")
	}
	return "text"
}

func validValue(f *profile.Field, value string) bool {
	switch f.Type {
	case "date":
		_, short := time.Parse(time.DateOnly, value)
		_, long := time.Parse(time.RFC3339, value)
		return short == nil || long == nil
	case "number":
		n, err := strconv.ParseFloat(value, 64)
		return err == nil && !math.IsNaN(n) && !math.IsInf(n, 0)
	case "yesno":
		return value == "yes" || value == "no"
	}
	return len(f.Values) == 0 || slices.Contains(f.Values, value)
}
