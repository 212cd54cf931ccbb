package app

import (
	"runtime"
	"runtime/debug"
)

// Version is the program's: that of its module where one was released, else the commit that it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "commit-" + s.Value[:12]
		}
	}
	return "unreleased"
}

// GoVersion is the version of Go that built the program.
func GoVersion() string { return runtime.Version() }
