package escalation

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"duban.internal/node/store"
	dubanv1 "duban.internal/proto/duban/v1"
)

// metrics of a runner; without a registry they count for nobody.
type metrics struct {
	levels, cards, withdrawn, conflicts prometheus.Counter
	lateness                            prometheus.Histogram
}

func newMetrics(to prometheus.Registerer) *metrics {
	m := &metrics{
		levels:    prometheus.NewCounter(prometheus.CounterOpts{Name: "duban_escalation_levels_opened_total", Help: "Levels of alerts opened by this node."}),
		cards:     prometheus.NewCounter(prometheus.CounterOpts{Name: "duban_escalation_cards_shown_total", Help: "Yellow cards shown by this node."}),
		withdrawn: prometheus.NewCounter(prometheus.CounterOpts{Name: "duban_escalation_levels_withdrawn_total", Help: "Levels of alerts that this node took back."}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{Name: "duban_escalation_conflicts_total", Help: "Commands that were decided again."}),
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "duban_escalation_lateness_seconds", Help: "How long after its due time a deadline fired, by the node's clock.",
			Buckets: []float64{.001, .01, .1, 1, 10, 60, 600, 3600, 86400},
		}),
	}
	if to != nil {
		to.MustRegister(m.levels, m.cards, m.withdrawn, m.conflicts, m.lateness)
	}
	return m
}

func (m *metrics) fired(late int64) {
	m.lateness.Observe((time.Duration(late) * time.Microsecond).Seconds())
}

func (m *metrics) count(c store.Command) {
	for _, e := range c.Entries {
		switch dubanv1.EntryKind(e.Kind) {
		case dubanv1.EntryKind_ENTRY_KIND_LEVEL_OPENED:
			m.levels.Inc()
		case dubanv1.EntryKind_ENTRY_KIND_CARD_SHOWN:
			m.cards.Inc()
		case dubanv1.EntryKind_ENTRY_KIND_LEVEL_WITHDRAWN:
			m.withdrawn.Inc()
		}
	}
}
