package bulk

import (
	"bufio"
	"encoding/csv"
	"os"
	"slices"
	"strconv"
	"strings"

	"duban.internal/node/fault"
)

// Refused takes refused rows as CSV: the row's own columns as they came, then its line and the reasons. The file is written
// anew by each run. It appears under its name once the whole input was answered; what a run that ended early has of it stays
// under the name with .part behind.
type Refused struct {
	path string
	file *os.File
	buf  *bufio.Writer
	csv  *csv.Writer
}

// CreateRefused begins the file of refused rows; an empty path takes them nowhere.
func (m *Mapping) CreateRefused(path string) (*Refused, error) {
	if path == "" {
		return &Refused{}, nil
	}
	f, err := os.Create(path + ".part")
	if err != nil {
		return nil, fault.New(fault.Invalid, "refused rows: %w", err)
	}
	r := &Refused{path: path, file: f, buf: bufio.NewWriter(f)}
	r.csv = csv.NewWriter(r.buf)
	return r, r.csv.Write(append(slices.Clone(m.Columns), "line", "reason"))
}

func (r *Refused) write(row Row, wrong fault.List) error {
	if r.file == nil {
		return nil
	}
	reasons := make([]string, len(wrong))
	for i, f := range wrong {
		reasons[i] = strings.TrimPrefix(f.Field+": "+f.Description, ": ")
	}
	return r.csv.Write(append(slices.Clone(row.Values), strconv.Itoa(row.Line), strings.Join(reasons, "; ")))
}

// Close ends the file; whole says that the input was read to its end.
func (r *Refused) Close(whole bool) error {
	if r.file == nil {
		return nil
	}
	r.csv.Flush()
	err := r.csv.Error()
	if e := r.buf.Flush(); err == nil {
		err = e
	}
	if e := r.file.Close(); err == nil {
		err = e
	}
	r.file = nil
	if err != nil || !whole {
		return err
	}
	return os.Rename(r.path+".part", r.path)
}
