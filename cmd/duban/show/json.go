package show

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf16"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// JSON writes a value for programs, indented, with a line break at the end. Messages are written by their .proto names,
// every field present but those of a oneof or a message that is not set; bytes are hexadecimal, enums their names, and
// 64-bit numbers are numbers: times in microseconds stay below 2^53.
func JSON(w io.Writer, v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = w.Write(out.Bytes())
	return err
}

// Line is JSON on one line, for streams.
func Line(w io.Writer, v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// encode writes characters that a terminal would obey or hide as \u escapes: the same to a program, and harmless to who looks.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(value(v))
	if err != nil {
		return nil, err
	}
	if !bytes.ContainsFunc(b, hidden) {
		return b, nil
	}
	var out bytes.Buffer
	for _, r := range string(b) { // they can only stand in strings
		if hidden(r) {
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&out, `\u%04x`, unit)
			}
			continue
		}
		out.WriteRune(r)
	}
	return out.Bytes(), nil
}

func value(v any) any {
	if m, ok := v.(proto.Message); ok {
		return message(m.ProtoReflect())
	}
	return v
}

// object is a JSON object that keeps the order of its keys.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			out = append(out, ',')
		}
		key, err := json.Marshal(m.key)
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, key...), ':'), v...)
	}
	return append(out, '}'), nil
}

func message(m protoreflect.Message) object {
	o := object{}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) && (f.HasPresence() || f.ContainingOneof() != nil) {
			continue
		}
		v := m.Get(f)
		switch {
		case f.IsMap():
			entries := object{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				entries = append(entries, member{k.String(), single(f.MapValue(), v)})
				return true
			})
			slices.SortFunc(entries, func(a, b member) int { return bytes.Compare([]byte(a.key), []byte(b.key)) })
			o = append(o, member{string(f.Name()), entries})
		case f.IsList():
			list := make([]any, v.List().Len())
			for i := range list {
				list[i] = single(f, v.List().Get(i))
			}
			o = append(o, member{string(f.Name()), list})
		default:
			o = append(o, member{string(f.Name()), single(f, v)})
		}
	}
	return o
}

func single(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return message(v.Message())
	case protoreflect.BytesKind:
		return hex.EncodeToString(v.Bytes())
	case protoreflect.EnumKind:
		if d := f.Enum().Values().ByNumber(v.Enum()); d != nil {
			return string(d.Name())
		}
		return int32(v.Enum())
	}
	return v.Interface()
}
