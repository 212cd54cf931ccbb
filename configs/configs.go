// Package configs carries the regulations, calendars and divisions that ship with the program, so that one binary can
// start without any file beside it. It promises content only: nothing is parsed here, and an operator's own files, given
// in a node's configuration, take the place of these.
package configs

import "embed"

// FS holds the shipped files under their paths in this folder, such as calendars/cn-holidays.csv.
//
//go:embed calendars divisions profiles
var FS embed.FS
