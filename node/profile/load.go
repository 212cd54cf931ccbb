package profile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"unicode/utf8"
)

// Bounds of a profile. It may come from another node, and the parser's cost grows with the square of the depth, which
// short lines bound: the worst profile then costs seconds, not hours.
const (
	maxFiles = 64
	maxFile  = 128 << 10
	maxTotal = 512 << 10
	maxLine  = 600
	maxFlow  = 8 // brackets and braces open at once
)

// File is one file of a profile.
type File struct {
	Path    string // slash-separated, unique in the profile
	Content []byte
}

// Load reads every file in dir of fsys that ends in .yaml, not those in folders below it. The error is a Problems where
// a file could be read and is wrong.
func Load(fsys fs.FS, dir string) (*Profile, error) {
	names, err := fs.Glob(fsys, path.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", dir, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("profile %s: no .yaml file there", dir)
	}
	files := make([]File, 0, len(names))
	for _, name := range names {
		content, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("profile %s: %w", dir, err)
		}
		files = append(files, File{Path: path.Base(name), Content: content})
	}
	return Parse(files)
}

// Parse reads and checks a profile. Its files may be in any order: the same files give the same profile and hash. The
// error is a Problems.
func Parse(files []File) (*Profile, error) {
	files = slices.Clone(files)
	for i := range files {
		files[i].Content = bytes.Clone(files[i].Content)
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	p := &Profile{files: files, hash: hash(files), lines: make(map[string]position)}
	d := decoder{lines: p.lines}
	if len(files) == 0 || len(files) > maxFiles {
		d.add(position{}, "files", "%d files, want 1 to %d", len(files), maxFiles)
		return nil, d.problems
	}
	total := 0
	for i, f := range files {
		total += len(f.Content)
		switch {
		case total > maxTotal:
			d.add(position{file: f.Path}, "", "%d bytes so far, at most %d are allowed in all", total, maxTotal)
			return nil, d.problems
		case !fs.ValidPath(f.Path) || f.Path == ".":
			d.add(position{}, "files", "path %.100q: want a slash-separated path below the profile", f.Path)
		case i > 0 && files[i-1].Path == f.Path:
			d.add(position{}, "files", "path %.100q is there twice", f.Path)
		default:
			d.file(f, p)
		}
	}
	if len(d.problems) == 0 {
		c := checker{p: p}
		c.profile()
		d.problems = c.problems
	}
	if len(d.problems) > 0 {
		return nil, d.problems.sorted()
	}
	return p, nil
}

// Hash is the profile's address: SHA-256 over its files, by path.
func (p *Profile) Hash() [32]byte { return p.hash }

// Files are what it was read from, by path. They are not to be changed.
func (p *Profile) Files() []File { return p.files }

func hash(files []File) [32]byte {
	h := sha256.New()
	var size [8]byte
	put := func(b []byte) {
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	for _, f := range files {
		put([]byte(f.Path))
		put(f.Content)
	}
	return [32]byte(h.Sum(nil))
}

// oversized says where a file exceeds the bounds, before the parser sees it.
func oversized(content []byte) (line int, problem string) {
	switch {
	case len(content) > maxFile:
		return 0, fmt.Sprintf("%d bytes, at most %d are allowed", len(content), maxFile)
	case !utf8.Valid(content):
		return 0, "not UTF-8"
	}
	flow := 0
	for text := range bytes.Lines(content) {
		line++
		if len(text) > maxLine {
			return line, fmt.Sprintf("%d bytes in one line, at most %d are allowed", len(text), maxLine)
		}
		for _, b := range text {
			switch b {
			case '[', '{':
				flow++
			case ']', '}':
				flow = max(flow-1, 0)
			case 0:
				return line, "a zero byte"
			}
		}
		if flow > maxFlow {
			return line, fmt.Sprintf("more than %d brackets and braces are open", maxFlow)
		}
	}
	return 0, ""
}
