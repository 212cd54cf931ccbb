package letters_test

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"duban.internal/node/jurisdiction"
	dubanv1 "duban.internal/proto/duban/v1"
)

type ctx = context.Context

// Whatever is lost, repeated, held up or sent by another way, and whoever starts anew in between: in the end every node
// has exactly what was addressed to it, once and in order.
func TestWhateverHappensOnTheWay(t *testing.T) {
	shared := tree(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(shared)
		links := [][2]jurisdiction.Code{{city, district}, {district, street}, {district, second}, {city, street}}
		waiting := make([][]*dubanv1.SyncLetter, len(links)) // on the way, by link
		alerts := 0
		told := map[jurisdiction.Code]int{}
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			link := rapid.IntRange(0, len(links)-1).Draw(t, "link")
			up, down := w.nodes[links[link][0]], w.nodes[links[link][1]]
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				for range rapid.IntRange(1, 5).Draw(t, "entries") {
					alerts++
					of := rapid.SampledFrom([]jurisdiction.Code{street, second}).Draw(t, "of")
					w.nodes[city].opens(t, fmt.Sprint(alerts), 3, of)
					told[of]++
					told[district]++
				}
				w.nodes[city].address(t)
			case 1, 2: // asked from where the child says that it stands
				waiting[link] = append(waiting[link], up.next(t, down, rapid.SampledFrom([]int{1, 3000, plenty}).Draw(t, "most"))...)
			case 3, 4: // some arrive, maybe twice
				n := rapid.IntRange(0, len(waiting[link])).Draw(t, "arrive")
				for _, m := range waiting[link][:n] {
					for range rapid.IntRange(1, 2).Draw(t, "times") {
						down.take(t, proto.Clone(m).(*dubanv1.SyncLetter))
					}
				}
				waiting[link] = waiting[link][n:]
			case 5: // the stream breaks: the rest is lost
				waiting[link] = nil
			case 6:
				down.open()
			}
		}
		for range 2 {
			w.nodes[city].down(t, w.nodes[district], plenty)
			w.nodes[district].down(t, w.nodes[street], plenty)
			w.nodes[district].down(t, w.nodes[second], plenty)
		}
		for _, code := range []jurisdiction.Code{district, street, second} {
			if got := w.nodes[code].got(t, city); len(got) != told[code] {
				t.Fatalf("%s has %d of %d", code, len(got), told[code])
			}
			if found := w.nodes[code].evidence(t); len(found) > 0 {
				t.Fatalf("%s blames somebody who is honest: %v", code, found)
			}
		}
	})
}

// A middle that loses letters is noticed, and nothing is missing once they come after all.
func TestWithholding(t *testing.T) {
	shared := tree(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(shared)
		c, s := w.nodes[city], w.nodes[street]
		n := rapid.IntRange(2, 12).Draw(t, "letters")
		for i := range n {
			c.opens(t, fmt.Sprint(i), 3, street)
			c.address(t)
		}
		out, held := c.next(t, s, plenty), 0
		kept := map[int]bool{}
		for i := range out {
			if kept[i] = i == n-1 || !rapid.Bool().Draw(t, "held back"); !kept[i] {
				held++
			}
		}
		for range 8 {
			for i, m := range out {
				if kept[i] {
					s.take(t, m)
				}
			}
		}
		if found := s.evidence(t); held > 0 && len(found) != 1 || held == 0 && len(found) != 0 {
			t.Fatalf("%d held back, evidence %v", held, found)
		}
		c.down(t, s, plenty)
		if got := s.got(t, city); len(got) != n {
			t.Fatalf("%d of %d", len(got), n)
		}
	})
}

// FuzzTake gives a Box what somebody below TLS could send: it never fails, and takes nothing that nobody signed.
func FuzzTake(f *testing.F) {
	w := newWorld(tree(f))
	c, s := w.nodes[city], w.nodes[street]
	for i := range 4 {
		c.opens(f, fmt.Sprint(i), 3, street)
		c.address(f)
		for _, m := range c.next(f, s, plenty) {
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
		if i == 1 {
			c.down(f, s, plenty)
		}
	}
	prepared, real := s.disk, len(s.got(f, city))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m dubanv1.SyncLetter
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		s := &node{w: w, code: street, disk: prepared.Clone()}
		s.open()
		before, _ := s.store.Journal(s.store.Own())
		ack, err := s.box.Take(t.Context(), &m)
		if err != nil {
			t.Fatal(err)
		}
		after, _ := s.store.Journal(s.store.Own())
		if after.Size > before.Size+1 || ack.GetRefused() != "" && len(s.got(t, city)) > real {
			t.Fatalf("%d entries written, answered %v", after.Size-before.Size, ack)
		}
		if got := len(s.got(t, city)); got > 4 {
			t.Fatalf("%d received", got)
		}
	})
}
