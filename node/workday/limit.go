package workday

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Unit is what a limit is counted in. The zero value is none.
type Unit uint8

// The units of limits.
const (
	WorkingDays Unit = iota + 1 // 工作日
	NaturalDays                 // 自然日
	Hours
)

// MaxN is the largest N of a limit: more than any regulation asks, and far from overflow.
const MaxN = 36_500

var suffixes = [...]string{WorkingDays: "wd", NaturalDays: "d", Hours: "h"}

// Limit is a time within which something has to be done (时限). N is 1 to MaxN; 0 only in natural days, where it is the
// end of the same day. RollOver, for natural days only, moves an end on a day off to the next working day. The zero value
// is no limit.
type Limit struct {
	N        int
	Unit     Unit
	RollOver bool
}

// ParseLimit reads the text form: 3wd, 90d, 90d+roll, 24h.
func ParseLimit(s string) (Limit, error) {
	var l Limit
	number, roll := strings.CutSuffix(s, "+roll")
	switch {
	case strings.HasSuffix(number, "wd"):
		l.Unit = WorkingDays
	case strings.HasSuffix(number, "d"):
		l.Unit = NaturalDays
	case strings.HasSuffix(number, "h"):
		l.Unit = Hours
	default:
		return Limit{}, fmt.Errorf("limit %.40q: want a number and a unit: 3wd (working days), 90d (natural days), 90d+roll (a day off rolls over), 24h", s)
	}
	l.RollOver = roll
	number = strings.TrimSuffix(number, suffixes[l.Unit])
	n, err := strconv.Atoi(number)
	if err != nil || strconv.Itoa(n) != number {
		return Limit{}, fmt.Errorf("limit %.40q: want a whole number before the unit, without sign, blank or leading zero", s)
	}
	l.N = n
	if err := l.Validate(); err != nil {
		return Limit{}, fmt.Errorf("limit %.40q: %w", s, err)
	}
	return l, nil
}

// Validate says what is wrong with a limit that did not come from ParseLimit. The zero value is not valid.
func (l Limit) Validate() error {
	least := 1
	switch l.Unit {
	case NaturalDays:
		least = 0
	case WorkingDays, Hours:
		if l.RollOver {
			return errors.New("only natural days roll over")
		}
	default:
		return errors.New("want working days, natural days or hours")
	}
	if l.N < least || l.N > MaxN {
		return fmt.Errorf("want a number from %d to %d", least, MaxN)
	}
	return nil
}

// IsZero says that there is no limit.
func (l Limit) IsZero() bool { return l == Limit{} }

// String is the text form that ParseLimit reads; "none" for the zero value.
func (l Limit) String() string {
	if l.IsZero() {
		return "none"
	}
	if int(l.Unit) >= len(suffixes) || l.Unit == 0 {
		return fmt.Sprintf("%d of unknown unit %d", l.N, l.Unit)
	}
	s := strconv.Itoa(l.N) + suffixes[l.Unit]
	if l.RollOver {
		s += "+roll"
	}
	return s
}

// MarshalText writes the text form, and refuses a limit that ParseLimit would not read.
func (l Limit) MarshalText() ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("limit %s: %w", l, err)
	}
	return []byte(l.String()), nil
}

// UnmarshalText is ParseLimit.
func (l *Limit) UnmarshalText(text []byte) error {
	parsed, err := ParseLimit(string(text))
	if err == nil {
		*l = parsed
	}
	return err
}
