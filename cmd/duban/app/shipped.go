package app

import (
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"duban.internal/configs"
	"duban.internal/node/fault"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/workday"
)

// A setting that names a file of configs/ may be the name of one that ships with the program, or the path of one of the
// operator's own. A path has a slash or a dot in it.
func isPath(name string) bool { return strings.ContainsAny(name, "/.\\") }

// shipped lists the names under a folder of configs/.
func shipped(folder string) string {
	entries, err := fs.ReadDir(configs.FS, folder)
	if err != nil {
		return "none"
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
	}
	return strings.Join(names, ", ")
}

func open(field, folder, name string) (fs.File, error) {
	if isPath(name) {
		f, err := os.Open(name)
		if err != nil {
			return nil, refused(field, "%v", err)
		}
		return f, nil
	}
	f, err := configs.FS.Open(path.Join(folder, name+".csv"))
	if err != nil {
		return nil, refused(field, "%q: expected the path of a file, or one that ships: %s", name, shipped(folder))
	}
	return f, nil
}

func refused(field, format string, args ...any) error {
	var l fault.List
	l.Add(field, format, args...)
	return l.Err(fault.Invalid, "the configuration can't be used")
}

// LoadDivisions lays the named lists of divisions together. A name is that of a shipped list or the path of a file. All
// that is wrong is said at once (fault.Invalid).
func LoadDivisions(names []string) (*jurisdiction.Tree, error) {
	var sources []jurisdiction.Source
	for _, name := range names {
		f, err := open("divisions", "divisions", name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		sources = append(sources, jurisdiction.Source{Name: name, Reader: f})
	}
	tree, err := jurisdiction.LoadAll(sources...)
	if err != nil {
		return nil, refused("divisions", "%v", err)
	}
	return tree, nil
}

func loadProfile(name string) (*profile.Profile, error) {
	fsys, dir := fs.FS(configs.FS), path.Join("profiles", name)
	if isPath(name) {
		fsys, dir = os.DirFS(name), "."
	} else if _, err := fs.Stat(fsys, dir); err != nil {
		return nil, refused("profile", "%q: expected the path of a folder, or one that ships: %s", name, shipped("profiles"))
	}
	p, err := profile.Load(fsys, dir)
	if err != nil {
		return nil, refused("profile", "%v", err)
	}
	return p, nil
}

// loadCalendar reads the calendar. One that lacks the present year can't count a single limit: unless the node is for
// history only, that is an error.
func loadCalendar(c Config, now time.Time) (*workday.Calendar, error) {
	f, err := open("calendar", "calendars", c.Calendar)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, refused("calendar", "%v", err)
	}
	calendar, err := workday.Parse(content)
	if err != nil {
		return nil, refused("calendar", "%s: %v", c.Calendar, err)
	}
	if year, current := calendar.Missing(now); current && !c.History {
		first, last := calendar.Years()
		return nil, refused("calendar", "%s covers %d to %d and the node's clock shows %d: expected a calendar with this year, or history: true for a node that only holds imported history",
			c.Calendar, first, last, year)
	}
	return calendar, nil
}
