package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"duban.internal/cmd/duban/app"
	"duban.internal/cmd/duban/show"
	"duban.internal/node/profile"
	"duban.internal/node/workday"
)

func profiles() *cobra.Command {
	c := &cobra.Command{
		Use: "profile", Short: "Look at regulations as data (规则包)",
		Long:    "Look at regulations as data (规则包): what a node judges by. No node is asked; `duban status` says which profile one has in force.",
		Example: "  duban profile show tianjin\n  duban profile show chicago --json",
	}
	c.AddCommand(profileShow())
	return c
}

func profileShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [NAME]", Short: "Show what a profile asks for and watches", Args: cobra.MaximumNArgs(1),
		Long: `Show a profile that ships, by its name, or one in a folder, by its path; tianjin by default. For each procedure (程序): what an
opening takes, and for each stage (环节) what may come before, who acts, results, documents and fields; then the alert points
(预警点) with their limits and articles, the ladders that say who handles which level, roles, actions and subjects. These
are the names that the flags of duban case and duban alert take; items (事项编码) are each agency's own, see duban agency list.
In limits, d is natural days, wd working days, h hours; "own choice" is what the regulation leaves open.`,
		Example: "  duban profile show\n  duban profile show configs/profiles/tianjin\n  duban profile show --json | jq '.procedures[].stages[].name'",
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "tianjin"
			if len(args) > 0 {
				name = args[0]
			}
			p, err := app.LoadProfile(name)
			if err != nil {
				return err
			}
			if asJSON(cmd) {
				return show.JSON(cmd.OutOrStdout(), data(reflect.ValueOf(*p)))
			}
			return tellProfile(cmd.OutOrStdout(), p)
		},
	}
}

// data is a value of a profile for JSON, by the names that its files have.
func data(v reflect.Value) any {
	if l, ok := v.Interface().(workday.Limit); ok {
		if l.IsZero() {
			return ""
		}
		return l.String()
	}
	switch v.Kind() {
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Tag.Get("yaml"); name != "" {
				out[name] = data(v.Field(i))
			}
		}
		return out
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = data(v.Index(i))
		}
		return out
	}
	return v.Interface()
}

func tellProfile(w io.Writer, p *profile.Profile) error {
	hash := p.Hash()
	fmt.Fprintf(w, "profile %s %x\n  %s\n", p.Name, hash[:6], show.OneLine(p.Title))
	if p.Source != "" {
		fmt.Fprintf(w, "  %s\n", show.OneLine(p.Source))
	}
	for i := range p.Procedures {
		tellProcedure(w, &p.Procedures[i])
	}
	for _, section := range []func(io.Writer, *profile.Profile) error{tellPoints, tellLadders, tellNames} {
		if err := section(w, p); err != nil {
			return err
		}
	}
	return nil
}

// called is a name with its title.
func called(name, title string) string {
	if title == "" {
		return name
	}
	return name + " " + title
}

func list[T any](all []T, one func(T) string) string {
	var out []string
	for _, x := range all {
		out = append(out, one(x))
	}
	return strings.Join(out, ", ")
}

// line writes one property, if there is anything to say.
func line(w io.Writer, name, text string) {
	if text != "" {
		fmt.Fprintf(w, "    %-10s %s\n", name, show.OneLine(text))
	}
}

func words(pairs ...any) string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i].(bool) {
			out = append(out, pairs[i+1].(string))
		}
	}
	return strings.Join(out, ", ")
}

func tellProcedure(w io.Writer, p *profile.Procedure) {
	fmt.Fprintf(w, "\nprocedure %s (%s, %s)\n", called(p.Name, p.Title), p.Act, p.Article)
	o := p.Opening
	fmt.Fprintf(w, "  opening (%s)\n", o.Article)
	line(w, "needs", words(o.Item, "an item (事项编码)", o.Party, "the party (name and kind)", o.Summary, "a summary", o.Handler, "the handler"))
	line(w, "source", list(o.Sources, func(s profile.Source) string { return called(s.Name, s.Title) }))
	for _, f := range o.Fields {
		tellField(w, f)
	}
	for i := range p.Stages {
		tellStage(w, &p.Stages[i])
	}
	for _, s := range p.Separate {
		fmt.Fprintf(w, "  different officers for: %s\n", strings.Join(s, ", "))
	}
}

func tellStage(w io.Writer, s *profile.Stage) {
	fmt.Fprintf(w, "  stage %s (%s)\n", called(s.Name, s.Title), s.Article)
	line(w, "after", words(len(s.After) > 0, strings.Join(s.After, " or "), s.First, "the opening"))
	line(w, "needs", strings.Join(s.Needs, ", "))
	line(w, "", words(s.Repeat, "may be recorded again", s.Closes, "closes the case", s.Hand != "", "in the hand of "+s.Hand))
	evidence := show.Count(s.Require.Evidence, "attachment") + " of evidence in the case"
	line(w, "takes", words(s.Require.Handler, "the handler", s.Require.Officers, "the officers who acted", s.Require.Evidence > 0, evidence))
	for _, r := range s.Results {
		line(w, "result", called(r.Name, r.Title)+note(words(r.Reason, "with a reason", r.Next != "", "then "+r.Next, len(r.Needs) > 0, "needs "+strings.Join(r.Needs, ", "))))
	}
	for _, d := range s.Require.Documents {
		line(w, "document", called(d.Name, d.Title)+note(words(d.Attach, "its file uploaded", len(d.With) > 0, "with the result "+strings.Join(d.With, " or "), d.Article != "", d.Article)))
	}
	for _, f := range s.Require.Fields {
		tellField(w, f)
	}
}

func tellField(w io.Writer, f profile.Field) {
	line(w, "field", called(f.Name, f.Title)+note(words(f.Type != "", f.Type, f.Optional, "optional", len(f.Values) > 0, "one of "+strings.Join(f.Values, " "),
		len(f.With) > 0, "with the result "+strings.Join(f.With, " or "), f.Article != "", f.Article)))
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// limit is a limit for people; own says that the regulation names no number.
func limit(l workday.Limit, own bool) string {
	switch {
	case l.IsZero():
		return ""
	case own:
		return l.String() + " (own choice)"
	}
	return l.String()
}

func trigger(t profile.Trigger) string {
	s := t.On
	for _, names := range [][]string{t.Acts, t.Stages, t.Subjects} {
		if len(names) > 0 {
			s += " " + strings.Join(names, "|")
		}
	}
	if t.When != "" {
		s += " if " + t.When
	}
	return s
}

func tellPoints(w io.Writer, p *profile.Profile) error {
	fmt.Fprintln(w, "\nalert points (预警点)")
	table := show.NewTable("point", "title", "article", "grade", "limit", "judged", "warned before")
	for _, x := range p.Points {
		table.Row(x.Name, x.Title, x.Article, x.Grade, limit(x.Limit, x.Own), x.Judged, limit(x.Warn, x.WarnOwn))
	}
	for _, x := range p.Nodes {
		table.Row(x.Name, x.Title, x.Article, x.Grade, "", "node: "+x.On, "")
	}
	if err := table.Write(w); err != nil {
		return err
	}
	for _, x := range p.Points {
		fmt.Fprintf(w, "  %s: %s\n", x.Name, show.OneLine(trigger(x.Start)))
		if len(x.End) > 0 {
			fmt.Fprintf(w, "    until %s\n", show.OneLine(list(x.End, trigger)))
		}
	}
	return nil
}

func tellLadders(w io.Writer, p *profile.Profile) error {
	fmt.Fprintln(w, "\nladders: who handles which level, by the tier of who acts")
	table := show.NewTable("about", "tier", ">level", "role", "at", "limit", "article")
	rows := func(about string, ladders []profile.Ladder) {
		for _, l := range ladders {
			for i, x := range l.Levels {
				article := x.Article
				if article == "" {
					article = l.Article
				}
				table.Row(about, l.Tier, i+1, x.Role, x.At, limit(x.Limit, x.Own), article)
			}
		}
	}
	rows("cases", p.Ladders)
	for _, n := range p.Nodes {
		rows(n.Name, n.Ladders)
	}
	return table.Write(w)
}

func tellNames(w io.Writer, p *profile.Profile) error {
	fmt.Fprintln(w, "\nnames")
	table := show.NewTable("kind", "name", "title", "of", "article")
	for _, r := range p.Roles {
		table.Row("role", r.Name, r.Title, r.Of, "")
	}
	for _, a := range p.Actions {
		table.Row("action", a.Name, a.Title, "", "")
	}
	for _, s := range p.Subjects {
		table.Row("subject", s.Name, s.Title, "", s.Article)
	}
	if p.Corrections.Role != "" {
		table.Row("corrections by", p.Corrections.Role, "", "", p.Corrections.Article)
	}
	return table.Write(w)
}
