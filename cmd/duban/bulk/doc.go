// Package bulk imports history (批量导入): rows of CSV or JSON lines, plain or gzipped, become cases and stages through a
// mapping file, and go to a node over its Collect stream like any other record.
//
// It promises that every row ends as exactly one of taken, already there or refused, that a refused row is written out as
// it came with every reason, and that an import which was interrupted, by a signal or a kill, and is run again ends as if it
// had run once: a row's natural key is the hash of the whole row, so two equal rows are one and a row that differs anywhere
// is another. A row is one record, a case with its stages, that the node decides and commits as a whole: of a row that is
// refused, for whatever stage, nothing is recorded.
//
// It does not decide what a record must have: the node does. It changes and deletes nothing.
//
// # Mapping file
//
// YAML. A value is a template, in which {column} stands for a column and {hash} for the first 8 hexadecimal digits of the
// row's hash, or a block with `column`, `table` (of the mapping's tables, applied to the column) and `required`:
//
//	name: chicago-sanitation          part of every natural key: change it and the same rows are new ones
//	format: csv                       or jsonl
//	columns: [number, created]        the heading that the file must have, in its order; for jsonl the keys that may be there
//	zone: America/Chicago             in which times without a zone are read
//	time: "2006-01-02"                how times are written, in Go's layout
//	tables: {ward: {"0": "990100000"}}
//	case:
//	  id: "{number}-{hash}"
//	  number: "{number}"
//	  agency: sanitation
//	  division: {column: ward, table: ward, required: true}
//	  occurred: "{created}"
//	  fields: {type: "{type}"}
//	stages:
//	  - stage: closing
//	    if: completed                 only for rows that have something in this column
//	    completed: "{completed}"
//	    fields: {status: "{status}"}
package bulk
