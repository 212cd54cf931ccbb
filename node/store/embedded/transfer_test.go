package embedded

import (
	"os"
	"path/filepath"
	"testing"
)

// TestArrivedStateTakesItsPlace begins the exchange of folders at each point at which it may have been interrupted.
func TestArrivedStateTakesItsPlace(t *testing.T) {
	write := func(content string, path ...string) {
		t.Helper()
		name := filepath.Join(path...)
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for point := range 4 {
		dir := t.TempDir()
		write("old", dir, tablesFile)
		write("old", dir, tablesFile+"-wal")
		write("half", dir, incomingDir, tablesFile)
		write("half", dir, "sending-1", tablesFile)
		journals := filepath.Join(dir, arrivedDir, journalsDir)
		switch point {
		case 0: // nothing moved
			write("old", dir, journalsDir, "x", "hashes")
		case 1: // the old journals are gone
		case 2: // the new ones are in place
			journals = filepath.Join(dir, journalsDir)
		case 3: // everything is
			journals = filepath.Join(dir, journalsDir)
			write("new", dir, tablesFile)
			_ = os.Remove(filepath.Join(dir, tablesFile+"-wal"))
			_ = os.MkdirAll(filepath.Join(dir, arrivedDir), 0o750)
		}
		write("new", journals, "y", "hashes")
		if point < 3 {
			write("new", dir, arrivedDir, tablesFile)
		}
		if err := settleArrived(dir); err != nil {
			t.Fatal(err)
		}
		var have []string
		_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() {
				b, _ := os.ReadFile(path)
				rel, _ := filepath.Rel(dir, path)
				have = append(have, filepath.ToSlash(rel)+"="+string(b))
			}
			return nil
		})
		if len(have) != 2 || have[0] != "journals/y/hashes=new" || have[1] != "tables.db=new" {
			t.Errorf("interrupted at %d: %v", point, have)
		}
	}
	for _, name := range []string{"../x", "journals/../x", "journals/00/hashes", "raft/x", "/etc/passwd", "journals/000102030405060708090a0b0c0d0e0f/x.seg"} {
		if goodName(name) {
			t.Errorf("a state may write %s", name)
		}
	}
	if !goodName("journals/000102030405060708090a0b0c0d0e0f/00000000000000000000.seg") {
		t.Error("a state may not write a segment")
	}
}
