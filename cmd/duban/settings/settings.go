// Package settings reads a node's configuration: file, then environment (DUBAN_...), then flags, the later before the
// earlier. It promises that nothing is guessed: an unknown key, in the file or in the environment, is an error that names
// the nearest known one, and everything that is wrong is said at once. It opens no file but the configuration itself and
// does not watch it.
//
// The keys are those of app.Config; a nested key is written with dots in messages (intervals.grace), as DUBAN_INTERVALS_GRACE
// in the environment and as --intervals-grace on the command line.
package settings

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"duban.internal/cmd/duban/app"
	"duban.internal/node/fault"
)

const prefix = "DUBAN_"

// ClientKeys are the settings of commands that talk to a node; the environment may carry them too.
var ClientKeys = []string{"node", "ca", "cert", "key", "identity", "timeout"}

// Key is one setting of a node.
type Key struct {
	Name string // with dots
	Help string
	at   []int // path of the field in app.Config
	kind reflect.Type
}

// Env is the environment variable of the key.
func (k Key) Env() string { return prefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_")) }

// Flag is the command line's name of the key.
func (k Key) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(k.Name) }

// Keys lists the settings in the order of app.Config.
func Keys() []Key { return walk(reflect.TypeFor[app.Config](), "", nil) }

func walk(t reflect.Type, path string, at []int) (keys []Key) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("key")
		if name == "-" || name == "" {
			continue
		}
		at := append(slices.Clone(at), i)
		if help := f.Tag.Get("help"); help != "" {
			keys = append(keys, Key{Name: path + name, Help: help, at: at, kind: f.Type})
			continue
		}
		keys = append(keys, walk(f.Type, path+name+".", at)...)
	}
	return keys
}

// Flags adds a flag for every key; their values are text, read when Load is called.
func Flags(set *pflag.FlagSet) {
	defaults := reflect.ValueOf(app.Config{}.WithDefaults())
	for _, k := range Keys() {
		help := k.Help
		if v := defaults.FieldByIndex(k.at); !v.IsZero() {
			help += fmt.Sprintf(" (default %v)", v.Interface())
		}
		if k.kind.Kind() == reflect.Slice {
			set.StringSlice(k.Flag(), nil, help)
			continue
		}
		set.String(k.Flag(), "", help)
		if k.kind.Kind() == reflect.Bool {
			set.Lookup(k.Flag()).NoOptDefVal = "true" // --history alone means yes
		}
	}
}

// Load reads file (may be empty for none), the environment and the flags that were set.
func Load(file string, environ []string, flags *pflag.FlagSet) (app.Config, error) {
	v := viper.New()
	keys := Keys()
	var wrong fault.List
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return app.Config{}, fault.New(fault.Invalid, "configuration: %w", err)
		}
		defer f.Close()
		v.SetConfigType("yaml")
		if err := v.ReadConfig(f); err != nil {
			return app.Config{}, fault.New(fault.Invalid, "configuration %s is not YAML: %w", file, err)
		}
		for _, name := range v.AllKeys() {
			if !known(keys, name) {
				wrong.Add(name, "unknown key in %s; the nearest one is %s", file, Nearest(name, names(keys)))
			}
		}
	}
	fromEnvironment(v, keys, environ, &wrong)
	if flags != nil {
		for _, k := range keys {
			if f := flags.Lookup(k.Flag()); f != nil && f.Changed {
				if s, ok := f.Value.(pflag.SliceValue); ok {
					v.Set(k.Name, s.GetSlice())
					continue
				}
				v.Set(k.Name, f.Value.String())
			}
		}
	}
	var c app.Config
	for _, k := range keys {
		if value := v.Get(k.Name); value != nil {
			if err := assign(reflect.ValueOf(&c).Elem().FieldByIndex(k.at), value); err != nil {
				wrong.Add(k.Name, "%v", err)
			}
		}
	}
	c = c.WithDefaults()
	unread := slices.Clone(wrong) // what could not be read is not judged as well
	for _, f := range fault.Fields(c.Validate()) {
		if !slices.ContainsFunc(unread, func(w fault.Field) bool { return w.Field == f.Field }) {
			wrong = append(wrong, f)
		}
	}
	return c, wrong.Err(fault.Invalid, "the configuration can't be used")
}

func fromEnvironment(v *viper.Viper, keys []Key, environ []string, wrong *fault.List) {
	variables := make([]string, 0, len(keys)+len(ClientKeys))
	byName := map[string]Key{}
	for _, k := range keys {
		byName[k.Env()] = k
		variables = append(variables, k.Env())
	}
	for _, k := range ClientKeys {
		variables = append(variables, prefix+strings.ToUpper(k))
	}
	for _, setting := range environ {
		name, value, _ := strings.Cut(setting, "=")
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if k, ok := byName[name]; ok {
			v.Set(k.Name, value)
		} else if !slices.Contains(variables, name) {
			wrong.Add(name, "unknown variable in the environment; the nearest one is %s", Nearest(name, variables))
		}
	}
}

func known(keys []Key, name string) bool {
	return slices.ContainsFunc(keys, func(k Key) bool { return k.Name == name })
}

func names(keys []Key) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.Name
	}
	return out
}

// Nearest is the candidate with the fewest letters to change; a name that is right but for its folder, or that is a folder,
// counts as near.
func Nearest(name string, candidates []string) string {
	best, least := "", 1<<30
	for _, c := range candidates {
		if strings.HasPrefix(c, name+".") {
			return c
		}
		d := distance(name, c)
		if i := strings.LastIndexByte(c, '.'); i >= 0 {
			d = min(d, distance(name, c[i+1:])+1)
		}
		if d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
