package dubanv1_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	dubanv1 "duban.internal/proto/duban/v1"
)

// Journals written years ago and nodes not yet upgraded speak what was released, so this test holds the compiled
// messages against the released descriptor set on a machine that has Go alone. buf's rules (.ci/breaking) are wider.

// TestReleasedStillSpoken fails where a released message, field, enum value or method is gone or means something else.
func TestReleasedStillSpoken(t *testing.T) {
	released := load(t)
	now := current(t)
	if len(released) < 100 {
		t.Fatalf("released descriptor set has only %d shapes: was it written by make release-descriptors?", len(released))
	}
	if broken := breaks(released, now); len(broken) > 0 {
		t.Errorf("breaks what was released:\n%s", strings.Join(broken, "\n"))
	}
}

// TestPlantedBreakIsNoticed proves that the check above can fail, one kind of break at a time.
func TestPlantedBreakIsNoticed(t *testing.T) {
	plant := func(change func(m *descriptorpb.DescriptorProto)) map[string]string {
		set := proto.CloneOf(protodesc.ToFileDescriptorProto(dubanv1.File_duban_v1_entry_proto))
		for _, m := range set.GetMessageType() {
			if m.GetName() == "JurisdictionNamed" {
				change(m)
			}
		}
		out := map[string]string{}
		file, err := protodesc.NewFile(set, protoregistry.GlobalFiles)
		if err != nil {
			t.Fatalf("planted file does not compile: %v", err)
		}
		shapes(file, out)
		return out
	}
	intact := plant(func(*descriptorpb.DescriptorProto) {})
	if broken := breaks(intact, intact); len(broken) > 0 {
		t.Fatalf("intact file is said to break itself: %v", broken)
	}
	for name, c := range map[string]struct {
		change func(m *descriptorpb.DescriptorProto)
		want   string
	}{
		"field deleted": {func(m *descriptorpb.DescriptorProto) { m.Field = m.Field[1:] }, "is gone"},
		"field renumbered": {
			func(m *descriptorpb.DescriptorProto) { m.Field[0].Number = proto.Int32(999) }, "is gone",
		},
		"type changed": {
			func(m *descriptorpb.DescriptorProto) {
				m.Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_DOUBLE.Enum()
			}, "was",
		},
		"number given to another field": {
			func(m *descriptorpb.DescriptorProto) {
				m.Field[0].Name, m.Field[0].JsonName = proto.String("other"), proto.String("other")
			}, "was",
		},
		"message renamed": {func(m *descriptorpb.DescriptorProto) { m.Name = proto.String("Other") }, "is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := breaks(intact, plant(c.change))
			if len(broken) == 0 {
				t.Fatal("planted break was not noticed")
			}
			if text := strings.Join(broken, "\n"); !strings.Contains(text, c.want) {
				t.Errorf("got %q, want it to say %q", text, c.want)
			}
		})
	}
	more := plant(func(m *descriptorpb.DescriptorProto) {
		f := proto.CloneOf(m.Field[0])
		f.Number, f.Name, f.JsonName = proto.Int32(999), proto.String("added"), proto.String("added")
		m.Field = append(m.Field, f)
	})
	if broken := breaks(intact, more); len(broken) > 0 {
		t.Errorf("adding a field is allowed, got %v", broken)
	}
}

// load returns the shapes of the released descriptor set.
func load(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/released.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	files.RangeFilesByPackage("duban.v1", func(f protoreflect.FileDescriptor) bool {
		shapes(f, out)
		return true
	})
	return out
}

// current returns the shapes of the messages compiled into this test.
func current(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	protoregistry.GlobalFiles.RangeFilesByPackage("duban.v1", func(f protoreflect.FileDescriptor) bool {
		shapes(f, out)
		return true
	})
	return out
}

// breaks names every released shape that is gone or different now, in order. What is new breaks nothing.
func breaks(released, now map[string]string) []string {
	var out []string
	for id, was := range released {
		switch is, ok := now[id]; {
		case !ok:
			out = append(out, id+" is gone")
		case is != was:
			out = append(out, fmt.Sprintf("%s was %q:\n%s", id, was, cmp.Diff(was, is)))
		}
	}
	slices.Sort(out)
	return out
}

// shapes adds what the wire depends on: id (message/number) -> name, cardinality and type.
func shapes(file protoreflect.FileDescriptor, out map[string]string) {
	enums(file.Enums(), out)
	messages(file.Messages(), out)
	for i := range file.Services().Len() {
		methods := file.Services().Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			out["method "+string(m.FullName())] = fmt.Sprintf("(%s stream=%t) returns (%s stream=%t)",
				m.Input().FullName(), m.IsStreamingClient(), m.Output().FullName(), m.IsStreamingServer())
		}
	}
}

func messages(list protoreflect.MessageDescriptors, out map[string]string) {
	for i := range list.Len() {
		m := list.Get(i)
		out["message "+string(m.FullName())] = "message"
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			shape := fmt.Sprintf("%s %s %s", f.Name(), f.Cardinality(), f.Kind())
			switch f.Kind() {
			case protoreflect.MessageKind, protoreflect.GroupKind:
				shape += " " + string(f.Message().FullName())
			case protoreflect.EnumKind:
				shape += " " + string(f.Enum().FullName())
			}
			if oneof := f.ContainingOneof(); oneof != nil {
				shape += " of " + string(oneof.Name())
			}
			out[fmt.Sprintf("field %s/%d", m.FullName(), f.Number())] = shape
		}
		enums(m.Enums(), out)
		messages(m.Messages(), out)
	}
}

func enums(list protoreflect.EnumDescriptors, out map[string]string) {
	for i := range list.Len() {
		e := list.Get(i)
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			out[fmt.Sprintf("value %s/%d", e.FullName(), v.Number())] = string(v.Name())
		}
	}
}
