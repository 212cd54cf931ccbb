package bulk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"duban.internal/node/fault"
)

// maxLine bounds one line of JSON, in bytes.
const maxLine = 1 << 20

// Source reads rows from a file, gunzipping where the file begins like one.
type Source struct {
	m    *Mapping
	next func() (Row, error)
	file *os.File
	size int64
	read atomic.Int64
}

// Open opens an input and checks its heading (fault.Invalid).
func (m *Mapping) Open(path string) (*Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Invalid, "input: %w", err)
	}
	s := &Source{m: m, file: f}
	if info, err := f.Stat(); err == nil {
		s.size = info.Size()
	}
	if err := s.begin(); err != nil {
		return nil, errors.Join(fault.New(fault.Invalid, "input %s: %w", path, err), f.Close())
	}
	return s, nil
}

// Close closes the file.
func (s *Source) Close() error { return s.file.Close() }

// Done is how much of the file was read, from 0 to 1.
func (s *Source) Done() float64 {
	if s.size == 0 {
		return 1
	}
	return float64(s.read.Load()) / float64(s.size)
}

// Next is the next row; io.EOF at the end. A row that can't be read comes with Broken.
func (s *Source) Next() (Row, error) { return s.next() }

func (s *Source) begin() error {
	in := bufio.NewReaderSize(counter{s.file, &s.read}, 64<<10)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = bufio.NewReaderSize(unzipped, 64<<10)
	}
	if bom, err := in.Peek(3); err == nil && bytes.Equal(bom, []byte("\ufeff")) {
		if _, err := in.Discard(3); err != nil {
			return err
		}
	}
	if s.m.Format == "jsonl" {
		s.next = s.json(in)
		return nil
	}
	return s.csv(in)
}

type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (s *Source) csv(in *bufio.Reader) error {
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	heading, err := r.Read()
	if err != nil {
		return fmt.Errorf("heading: %w", err)
	}
	if !slices.Equal(heading, s.m.Columns) {
		return fmt.Errorf("heading %s: expected %s", strings.Join(heading, ","), strings.Join(s.m.Columns, ","))
	}
	s.next = func() (Row, error) {
		values, err := r.Read()
		var bad *csv.ParseError
		switch {
		case errors.As(err, &bad):
			return s.broken(bad.StartLine, values, "not CSV: %v", bad.Err), nil
		case err != nil:
			return Row{}, err
		}
		line, _ := r.FieldPos(0)
		if len(values) != len(s.m.Columns) {
			return s.broken(line, values, "%d fields, expected %d", len(values), len(s.m.Columns)), nil
		}
		return Row{Line: line, Values: values}, nil
	}
	return nil
}

func (s *Source) broken(line int, values []string, format string, args ...any) Row {
	padded := make([]string, len(s.m.Columns))
	copy(padded, values)
	return Row{Line: line, Values: padded, Broken: fmt.Sprintf(format, args...)}
}

func (s *Source) json(in io.Reader) func() (Row, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	number := 0
	return func() (Row, error) {
		for lines.Scan() {
			number++
			if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
				return s.jsonRow(number, line), nil
			}
		}
		if errors.Is(lines.Err(), bufio.ErrTooLong) {
			return Row{}, fault.New(fault.Invalid, "input line %d: over %d bytes", number+1, maxLine)
		}
		if lines.Err() != nil {
			return Row{}, lines.Err()
		}
		return Row{}, io.EOF
	}
}

// jsonRow takes text as it is, null as nothing and all else as compact JSON. Keys that are no column refuse the row: they
// would be lost, and two rows that differ in them would be one.
func (s *Source) jsonRow(number int, line []byte) Row {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		return s.broken(number, []string{string(line)}, "not a JSON object: %v", err)
	}
	row := Row{Line: number, Values: make([]string, len(s.m.Columns))}
	for key, raw := range object {
		i, ok := s.m.column[key]
		if !ok {
			row.Broken = fmt.Sprintf("key %q is none of the columns %s", key, strings.Join(s.m.Columns, ", "))
			continue
		}
		var text string
		var compact bytes.Buffer
		switch {
		case bytes.Equal(raw, []byte("null")):
		case json.Unmarshal(raw, &text) == nil:
			row.Values[i] = text
		case json.Compact(&compact, raw) == nil:
			row.Values[i] = compact.String()
		}
	}
	return row
}
