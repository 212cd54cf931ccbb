package profile

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder puts YAML nodes into the profile's structs. The library's own strict decoder stops at the first problem and
// forgets where a value stood; this one gathers all problems and every value's line.
type decoder struct {
	name     string // of the file
	lines    map[string]position
	problems Problems
}

func (d *decoder) add(at position, field, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: at.file, Line: at.line, Field: field, Text: fmt.Sprintf(format, args...)})
}

// file joins one file into p.
func (d *decoder) file(f File, p *Profile) {
	d.name = f.Path
	if line, problem := oversized(f.Content); problem != "" {
		d.add(position{file: f.Path, line: line}, "", "%s", problem)
		return
	}
	tree, err := parser.ParseBytes(f.Content, 0)
	if err != nil {
		at := position{file: f.Path}
		text := err.Error()
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			text = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil {
				at.line = t.Position.Line
			}
		}
		d.add(at, "", "%s", text)
		return
	}
	documents := 0
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.CommentGroupType {
			continue
		}
		if documents++; documents > 1 {
			d.add(d.at(doc.Body), "", "a second document; want one in each file")
			return
		}
		d.into(doc.Body, reflect.ValueOf(p).Elem(), "", "")
	}
}

func (d *decoder) at(n ast.Node) position {
	at := position{file: d.name}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		at.line = t.Position.Line
	}
	return at
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// into decodes n into v. key is the path by numbers, shown the path by names.
func (d *decoder) into(n ast.Node, v reflect.Value, key, shown string) {
	if v.Kind() == reflect.Slice {
		d.list(n, v, key, shown)
		return
	}
	if before, ok := d.lines[key]; ok && key != "" {
		d.add(d.at(n), shown, "given before, at %s:%d", before.file, before.line)
		return
	}
	d.lines[key] = d.at(n)
	if reflect.PointerTo(v.Type()).Implements(textType) {
		text, ok := d.text(n, shown)
		if !ok {
			return
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			d.add(d.at(n), shown, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, key, shown)
	case reflect.String:
		if text, ok := d.text(n, shown); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
		} else {
			d.add(d.at(n), shown, "want true or false")
		}
	case reflect.Int:
		i, err := strconv.Atoi(scalar(n))
		if err != nil {
			d.add(d.at(n), shown, "want a whole number")
			return
		}
		v.SetInt(int64(i))
	default:
		d.add(d.at(n), shown, "this program cannot read a %s here", v.Type())
	}
}

func (d *decoder) list(n ast.Node, v reflect.Value, key, shown string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.add(d.at(n), shown, "want a list")
		return
	}
	if _, ok := d.lines[key]; !ok {
		d.lines[key] = d.at(n)
	}
	for _, item := range seq.Values {
		i := v.Len()
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		index := "[" + strconv.Itoa(i) + "]"
		name := index
		title := titleOf(item)
		if title != "" {
			name = "[" + title + "]"
		}
		d.into(item, v.Index(i), key+index, shown+name)
		at := d.lines[key+index]
		at.name = title
		d.lines[key+index] = at
	}
}

// titleOf is what an element of a list is called: by its key name, else tier.
func titleOf(n ast.Node) string {
	for _, key := range []string{"name", "tier"} {
		for _, pair := range pairs(n) {
			if scalar(pair.Key) == key {
				return scalar(pair.Value)
			}
		}
	}
	return ""
}

func pairs(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func (d *decoder) mapping(n ast.Node, v reflect.Value, key, shown string) {
	list := pairs(n)
	if len(list) == 0 {
		d.add(d.at(n), shown, "want keys and values: %s", strings.Join(keys(v.Type()), ", "))
		return
	}
	seen := make(map[string]bool, len(list))
	for _, pair := range list {
		name := scalar(pair.Key)
		field, ok := fieldOf(v, name)
		childKey, childShown := join(key, name), join(shown, name)
		switch {
		case !ok:
			d.add(d.at(pair.Key), childShown, "unknown key; allowed here are %s", strings.Join(keys(v.Type()), ", "))
		case seen[name]:
			d.add(d.at(pair.Key), childShown, "given twice")
		default:
			d.into(pair.Value, field, childKey, childShown)
		}
		seen[name] = true
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag != "" && tag == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keys(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		if tag := f.Tag.Get("yaml"); tag != "" {
			names = append(names, tag)
		}
	}
	return names
}

// scalar is a plain value as written; empty for anything else.
func scalar(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value)
	case *ast.IntegerNode:
		return n.Token.Value
	case *ast.FloatNode:
		return n.Token.Value
	}
	return ""
}

// text reads a text value, which is never empty: what has no value is left out.
func (d *decoder) text(n ast.Node, shown string) (string, bool) {
	text := scalar(n)
	switch {
	case text != "":
		return text, true
	case n.Type() == ast.BoolType:
		d.add(d.at(n), shown, "want text; put %s in quotes", n.GetToken().Value)
	case n.Type() == ast.NullType || quoted(n):
		d.add(d.at(n), shown, "empty; leave the key out")
	default:
		d.add(d.at(n), shown, "want text")
	}
	return "", false
}

func quoted(n ast.Node) bool {
	t := n.GetToken()
	return t != nil && (t.Type == token.DoubleQuoteType || t.Type == token.SingleQuoteType)
}
