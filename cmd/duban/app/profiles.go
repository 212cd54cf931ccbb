package app

import (
	"io/fs"

	"duban.internal/configs"
	"duban.internal/node/profile"
)

// LoadProfile reads a profile: the name of one that ships, or the path of a folder. All that is wrong is said at once
// (fault.Invalid).
func LoadProfile(name string) (*profile.Profile, error) { return loadProfile(name) }

// ShippedProfiles lists the names of the profiles that ship.
func ShippedProfiles() ([]string, error) {
	entries, err := fs.ReadDir(configs.FS, "profiles")
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}
