package embedded

import (
	"fmt"
	"runtime"
	"unsafe"

	"modernc.org/libc"
	_ "modernc.org/sqlite" // sets SQLite's allocator and mutexes up
	sqlite "modernc.org/sqlite/lib"

	"duban.internal/node/store"
)

// conn is one SQLite connection, used by one goroutine at a time. It speaks to the library directly: on the way of
// every row database/sql costs as much as SQLite itself.
type conn struct {
	tls   *libc.TLS
	db    uintptr
	stmts map[string]*stmt
}

// stmt is a prepared statement. Text and blobs are copied into an arena that lives as long as the statement.
type stmt struct {
	c     *conn
	p     uintptr
	arena uintptr
	size  int
}

const (
	readWrite = sqlite.SQLITE_OPEN_READWRITE | sqlite.SQLITE_OPEN_CREATE | sqlite.SQLITE_OPEN_NOMUTEX
	readOnly  = sqlite.SQLITE_OPEN_READWRITE | sqlite.SQLITE_OPEN_NOMUTEX // with query_only: WAL readers write the index
)

// memory is an address outside Go's heap, as the library hands them out.
func memory(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

func openConn(path string, flags int32, pragmas ...string) (*conn, error) {
	c := &conn{tls: libc.NewTLS(), stmts: map[string]*stmt{}}
	name, err := libc.CString(path)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, name)
	handle := libc.Xcalloc(c.tls, 1, 8)
	defer libc.Xfree(c.tls, handle)
	rc := sqlite.Xsqlite3_open_v2(c.tls, name, handle, flags, 0)
	c.db = *(*uintptr)(memory(handle))
	if rc != sqlite.SQLITE_OK {
		err := c.fault("open", rc)
		c.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sqlite.Xsqlite3_busy_timeout(c.tls, c.db, 10_000)
	for _, p := range pragmas {
		if err := c.exec("PRAGMA " + p); err != nil {
			c.close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return c, nil
}

func (c *conn) close() {
	if c == nil || c.tls == nil {
		return
	}
	for _, s := range c.stmts {
		s.finalize()
	}
	c.stmts = nil
	if c.db != 0 {
		sqlite.Xsqlite3_close_v2(c.tls, c.db)
	}
	c.tls.Close()
	c.tls = nil
}

func (c *conn) fault(doing string, rc int32) error {
	text := ""
	if c.db != 0 {
		text = libc.GoString(sqlite.Xsqlite3_errmsg(c.tls, c.db))
	}
	return fmt.Errorf("sqlite: %s: %s (%d)", doing, text, rc)
}

// prepare returns the statement for a text; it is kept for the life of the connection.
func (c *conn) prepare(text string) (*stmt, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	s, err := c.compile(text)
	if err == nil {
		c.stmts[text] = s
	}
	return s, err
}

func (c *conn) compile(text string) (*stmt, error) {
	z, err := libc.CString(text)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, z)
	handle := libc.Xcalloc(c.tls, 1, 8)
	defer libc.Xfree(c.tls, handle)
	if rc := sqlite.Xsqlite3_prepare_v2(c.tls, c.db, z, -1, handle, 0); rc != sqlite.SQLITE_OK {
		return nil, fmt.Errorf("%w in %s", c.fault("prepare", rc), text)
	}
	return &stmt{c: c, p: *(*uintptr)(memory(handle))}, nil
}

// exec runs one statement that is not worth keeping, and throws its rows away.
func (c *conn) exec(text string, args ...any) error {
	s, err := c.compile(text)
	if err != nil {
		return err
	}
	defer s.finalize()
	return s.run(args...)
}

// run runs a statement that is worth keeping.
func (c *conn) run(text string, args ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	return s.run(args...)
}

// pagesWritten is how many pages the connection wrote to its write-ahead log since it was last asked.
func (c *conn) pagesWritten() int {
	at := libc.Xcalloc(c.tls, 2, 4)
	defer libc.Xfree(c.tls, at)
	if sqlite.Xsqlite3_db_status(c.tls, c.db, sqlite.SQLITE_DBSTATUS_CACHE_WRITE, at, at+4, 1) != sqlite.SQLITE_OK {
		return 0
	}
	return int(*(*int32)(memory(at)))
}

func (s *stmt) finalize() {
	sqlite.Xsqlite3_finalize(s.c.tls, s.p)
	if s.arena != 0 {
		libc.Xfree(s.c.tls, s.arena)
		s.arena = 0
	}
}

// bind sets the parameters, args before row.
func (s *stmt) bind(row store.Row, args ...any) error {
	need := 0
	for _, list := range [2][]any{args, row} {
		for _, v := range list {
			switch v := v.(type) {
			case string:
				need += len(v) + 1
			case []byte:
				need += len(v) + 1
			}
		}
	}
	if need > s.size {
		if s.arena != 0 {
			libc.Xfree(s.c.tls, s.arena)
		}
		s.size = need*2 + 256
		s.arena = libc.Xmalloc(s.c.tls, libc.Tsize_t(s.size))
		if s.arena == 0 {
			s.size = 0
			return fmt.Errorf("sqlite: out of memory for %d bytes of parameters", need)
		}
	}
	at, i := s.arena, int32(0)
	for _, list := range [2][]any{args, row} {
		for _, v := range list {
			i++
			var rc int32
			switch v := v.(type) {
			case nil:
				rc = sqlite.Xsqlite3_bind_null(s.c.tls, s.p, i)
			case int64:
				rc = sqlite.Xsqlite3_bind_int64(s.c.tls, s.p, i, v)
			case string:
				copy(unsafe.Slice((*byte)(memory(at)), len(v)+1), v)
				rc = sqlite.Xsqlite3_bind_text(s.c.tls, s.p, i, at, int32(len(v)), 0)
				at += uintptr(len(v) + 1)
			case []byte:
				copy(unsafe.Slice((*byte)(memory(at)), len(v)+1), v)
				rc = sqlite.Xsqlite3_bind_blob(s.c.tls, s.p, i, at, int32(len(v)), 0)
				at += uintptr(len(v) + 1)
			default:
				return fmt.Errorf("sqlite: parameter %d has type %T", i, v)
			}
			if rc != sqlite.SQLITE_OK {
				return s.c.fault("bind", rc)
			}
		}
	}
	return nil
}

// run executes with the parameters and throws rows away.
func (s *stmt) run(args ...any) error { return s.runRow(nil, args...) }

func (s *stmt) runRow(row store.Row, args ...any) error {
	if err := s.bind(row, args...); err != nil {
		return err
	}
	var rc int32
	for {
		if rc = sqlite.Xsqlite3_step(s.c.tls, s.p); rc != sqlite.SQLITE_ROW {
			break
		}
	}
	var err error
	if rc != sqlite.SQLITE_DONE {
		err = s.c.fault("step", rc)
	}
	sqlite.Xsqlite3_reset(s.c.tls, s.p)
	runtime.KeepAlive(s)
	return err
}

// query calls each for every row, until it returns false. Values are read by column and type: int64, string, []byte
// or nil.
func (s *stmt) query(each func(row store.Row) bool, types []store.Type, args ...any) error {
	if err := s.bind(nil, args...); err != nil {
		return err
	}
	defer sqlite.Xsqlite3_reset(s.c.tls, s.p)
	for {
		row, err := s.next(types)
		if row == nil || err != nil {
			return err
		}
		if !each(row) {
			return nil
		}
	}
}

// next steps a query that was bound (or has no parameters); nil at its end.
func (s *stmt) next(types []store.Type) (store.Row, error) {
	switch rc := sqlite.Xsqlite3_step(s.c.tls, s.p); rc {
	case sqlite.SQLITE_DONE:
		return nil, nil
	case sqlite.SQLITE_ROW:
		row := make(store.Row, len(types))
		for i, t := range types {
			row[i] = s.column(int32(i), t)
		}
		return row, nil
	default:
		return nil, s.c.fault("step", rc)
	}
}

func (s *stmt) column(i int32, t store.Type) any {
	tls, p := s.c.tls, s.p
	if sqlite.Xsqlite3_column_type(tls, p, i) == sqlite.SQLITE_NULL {
		return nil
	}
	switch t {
	case store.Int:
		return sqlite.Xsqlite3_column_int64(tls, p, i)
	case store.Text:
		at := sqlite.Xsqlite3_column_text(tls, p, i)
		n := sqlite.Xsqlite3_column_bytes(tls, p, i)
		return string(unsafe.Slice((*byte)(memory(at)), n))
	default:
		n := sqlite.Xsqlite3_column_bytes(tls, p, i)
		if n == 0 {
			return []byte{}
		}
		at := sqlite.Xsqlite3_column_blob(tls, p, i)
		return append([]byte(nil), unsafe.Slice((*byte)(memory(at)), n)...)
	}
}
