package letters

import "github.com/prometheus/client_golang/prometheus"

func counter(r prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "duban", Subsystem: "letters", Name: name, Help: help}, labels)
	if r != nil {
		r.MustRegister(c)
	}
	return c
}
