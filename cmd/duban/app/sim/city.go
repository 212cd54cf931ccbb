package sim

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"duban.internal/configs"
	"duban.internal/escalation"
	"duban.internal/escalation/rule"
	"duban.internal/federation/topology"
	"duban.internal/node/journal"
	"duban.internal/node/jurisdiction"
	"duban.internal/node/profile"
	"duban.internal/node/registry"
	"duban.internal/node/store/memory"
	"duban.internal/node/workday"
)

// What the simulator is written for: the shipped divisions, calendar and profile of Tianjin.
const (
	cityCode = jurisdiction.Code("120000")
	office   = "legal_office"
	item     = "SIM-0001"
)

// begin is when the tree was set up; a history begins some time later.
var begin = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)

// city is what all histories have in common: the tree with its keys, the regulation, and what every node had on its disk
// when the history begins. It is not changed once it is made.
type city struct {
	divisions *jurisdiction.Tree
	tree      *topology.Tree
	members   []topology.Node // the city first
	keys      map[jurisdiction.Code]*journal.Key
	profile   *profile.Profile
	calendar  *workday.Calendar
	compiled  *registry.Compiled
	rules     *rule.Set
	sets      *escalation.Sets
	verified  verified
	disks     map[jurisdiction.Code]*memory.Disk
}

// newCity sets a tree up: nodes in all, of which a fifth are districts.
func newCity(nodes int) (*city, error) {
	if nodes < 3 || nodes > 120 {
		return nil, fmt.Errorf("%d nodes: expected 3 to 120", nodes)
	}
	c := &city{keys: map[jurisdiction.Code]*journal.Key{}, disks: map[jurisdiction.Code]*memory.Disk{}, compiled: registry.NewCompiled(), sets: escalation.NewSets()}
	divisions, err := fs.ReadFile(configs.FS, "divisions/divisions.csv")
	if err != nil {
		return nil, err
	}
	if c.divisions, err = jurisdiction.Load(bytes.NewReader(divisions)); err != nil {
		return nil, err
	}
	holidays, err := fs.ReadFile(configs.FS, "calendars/cn-holidays.csv")
	if err != nil {
		return nil, err
	}
	if c.calendar, err = workday.Parse(holidays); err != nil {
		return nil, err
	}
	if c.profile, err = profile.Load(configs.FS, "profiles/tianjin"); err != nil {
		return nil, err
	}
	if c.rules, err = rule.Compile(c.profile); err != nil {
		return nil, err
	}
	if err := c.plant(nodes); err != nil {
		return nil, err
	}
	return c, c.settle()
}

// plant picks the nodes from the official divisions and makes their keys: the same ones every time.
func (c *city) plant(nodes int) error {
	districts := max(1, nodes/5)
	streets := nodes - 1 - districts
	root, ok := c.divisions.Get(cityCode)
	if !ok {
		return fmt.Errorf("the divisions lack %s", cityCode)
	}
	picked := []jurisdiction.Division{root}
	for i, d := range first(c.divisions.Children(cityCode), districts) {
		picked = append(picked, d)
		share := (streets - i + districts - 1) / districts
		picked = append(picked, first(c.divisions.Children(d.Code), share)...)
	}
	if len(picked) != nodes {
		return fmt.Errorf("the divisions have no %d districts with %d streets", districts, streets)
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "city: %q\nnodes:\n", string(cityCode))
	seeded := rand.NewChaCha8([32]byte{'s', 'i', 'm'})
	for i, d := range picked {
		id := journal.ID{0: 's', 1: 'i', 2: 'm'}
		binary.BigEndian.PutUint32(id[12:], uint32(i+1))
		private, public, err := note.GenerateKey(seeded, journal.Origin(id))
		if err != nil {
			return err
		}
		if c.keys[d.Code], err = journal.ParseKey(private); err != nil {
			return err
		}
		fmt.Fprintf(&text, "  - {code: %q, name: %q, tier: %s, parent: %q, journal: %q, key: %q}\n",
			string(d.Code), d.Name, d.Tier, string(d.Parent), id, public)
	}
	var err error
	if c.tree, err = topology.Parse(text.Bytes()); err != nil {
		return err
	}
	c.members = c.tree.All()
	for _, m := range c.members {
		c.disks[m.Code] = memory.NewDisk(m.Journal)
		m.Key.VerifyBy(c.verified.verify)
	}
	return nil
}

func first[T any](all []T, n int) []T { return all[:min(n, len(all))] }

// settle lets every node put itself on record and send that up, and keeps the disks as they are then.
func (c *city) settle() error {
	h := newHistory(c, 0, calm(), nil)
	for _, n := range h.nodes {
		if err := n.bootstrap(context.Background()); err != nil {
			return fmt.Errorf("setting up %s: %w", n.code, err)
		}
	}
	h.run(begin.Add(12 * time.Hour).UnixMicro())
	if h.bad != nil {
		return h.bad
	}
	for _, n := range h.nodes {
		n.disk.Sync()
		c.disks[n.code] = n.disk.Clone()
		for _, below := range h.nodes {
			info, _ := below.store.Journal(below.own)
			if got, _ := n.store.Journal(below.own); h.within(below, n) && got.Size != info.Size {
				return fmt.Errorf("setting up: %s has %d of %d entries of %s", n.code, got.Size, info.Size, below.code)
			}
		}
	}
	return nil
}

// verified remembers signatures that were verified: the same one is looked at by every node that it passes, and here they
// are one process.
type verified struct {
	mu   sync.Mutex
	good map[[sha256.Size]byte]bool
}

// maxVerified bounds what is remembered.
const maxVerified = 1 << 16

func (v *verified) verify(key ed25519.PublicKey, message, sig []byte) bool {
	h := sha256.New()
	h.Write(key)
	h.Write(sig)
	h.Write(message)
	sum := [sha256.Size]byte(h.Sum(nil))
	v.mu.Lock()
	known := v.good[sum]
	v.mu.Unlock()
	if known {
		return true
	}
	if !ed25519.Verify(key, message, sig) {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.good) >= maxVerified || v.good == nil {
		v.good = make(map[[sha256.Size]byte]bool)
	}
	v.good[sum] = true
	return true
}
