// Package workday counts the limits (时限) of a regulation: working days (工作日) by the calendar that the State Council
// publishes each year, make-up working days included, natural days (自然日) and hours. It is pure but for the zone data
// that Parse looks up: no clock, disk or network, and the same calendar gives the same instants on every node.
//
// # How a limit is counted
//
// Days are the local days of the calendar's zone. The day of the event is not counted. A limit of N working days ends at
// the end of the Nth working day after it. A limit of N natural days ends at the end of the Nth day after it, or, with
// RollOver, when that is a day off, at the end of the next working day; without RollOver the calendar is not asked. Hours
// are counted exactly, from the instant of the event.
//
// Deadline.At is the first instant that is too late: an act at t is in time if t is before At. The end of a day is
// therefore the next day's 00:00, and 24h after noon is late at noon.
//
// A limit that needs a year which is not published is open-ended: it names the year and never fires. When a calendar with
// that year is adopted, the limit is to be counted anew. What the law calls the next year's days may also amend this
// December, so Merge lays such rows over the older calendar.
//
// # Calendar file
//
// UTF-8 CSV under comments that state what it is. Every stated key stands once; other comments are free.
//
//	# name: what the calendar is, for people
//	# zone: Asia/Shanghai       IANA name; zone data is built in, none is needed on the machine
//	# years: 2004-2026          published years, each with rows; also lists: 2004-2010, 2011
//	# plain: 2000-2003          years whose working days are simply those outside the weekend, without rows
//	# weekend: sat,sun
//	# source: optional
//	date,day,holiday
//	2026-02-14,work,春节
//	2026-02-15,off,春节
//
// A row makes its date a working day or a day off; other dates go by the weekend. One of years and plain is needed, and
// together they leave no gap. Rows belong to years, or to the December before the first of them. The content address of
// a calendar is the SHA-256 of the file's bytes, comments included.
package workday
