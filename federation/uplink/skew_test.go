package uplink

import "testing"

// What an exchange takes is held against neither clock.
func TestSkew(t *testing.T) {
	for name, c := range map[string]struct{ sent, parent, now, skew int64 }{
		"between":        {sent: 100, parent: 150, now: 200},
		"slow answer":    {sent: 100, parent: 101, now: 9000},
		"parent behind":  {sent: 100, parent: 40, now: 200, skew: -60},
		"parent ahead":   {sent: 100, parent: 260, now: 200, skew: 60},
		"at the edges":   {sent: 100, parent: 100, now: 100},
		"sent not known": {parent: 1, now: 200, skew: 7},
	} {
		core := &Core{skew: 7}
		core.measure(c.sent, c.parent, c.now)
		if core.skew != c.skew || (core.measured == c.now) != (c.sent != 0) {
			t.Errorf("%s: skew %d measured %d", name, core.skew, core.measured)
		}
	}
}
