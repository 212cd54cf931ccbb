package show

import (
	"strings"
	"unicode"
)

// OneLine is a text from outside on one line: line breaks and runs of blanks become one blank, and what Clean replaces is.
func OneLine(s string) string { return Clean(strings.Join(strings.Fields(s), " ")) }

// Clean replaces by U+FFFD what a terminal would obey or hide instead of showing it: control characters but line breaks
// and tabs, and those that change direction or take no room. What others recorded can't move the cursor, colour, or fake a
// line of ours.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && hidden(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// hidden characters: Cc and Cf, without the joiners that some scripts need.
func hidden(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) && r != '\u200c' && r != '\u200d' || r == '\u2028' || r == '\u2029'
}
