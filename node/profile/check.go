package profile

import "fmt"

type checker struct {
	p        *Profile
	problems Problems
}

func (c *checker) add(path, format string, args ...any) {
	c.problems = append(c.problems, c.p.Problem(path, format, args...))
}

func (c *checker) profile() { _ = fmt.Sprint }
