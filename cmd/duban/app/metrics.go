package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"duban.internal/node/clock"
	"duban.internal/node/journal"
)

func newMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

var (
	entriesDesc    = prometheus.NewDesc("duban_journal_entries", "Entries of a journal that this node holds.", []string{"code"}, nil)
	waitingDesc    = prometheus.NewDesc("duban_journal_unacknowledged", "Entries of a journal that the parent has not acknowledged.", []string{"code"}, nil)
	checkpointDesc = prometheus.NewDesc("duban_journal_checkpoint_age_seconds", "Node's clock less the time that a journal's last checkpoint states.", []string{"code"}, nil)
	skewDesc       = prometheus.NewDesc("duban_journal_skew_seconds", "A child's clock less the node's, at the last exchange.", []string{"code"}, nil)
	stoppedDesc    = prometheus.NewDesc("duban_journal_fold_stopped", "1 where the fold of a journal stopped at a kind that this version does not know.", []string{"code"}, nil)
	refusedDesc    = prometheus.NewDesc("duban_journal_refused", "1 where nothing more is taken of a journal from below.", []string{"code"}, nil)
	parentDesc     = prometheus.NewDesc("duban_parent_connected", "1 while the stream to the parent stands.", nil, nil)
	aheadDesc      = prometheus.NewDesc("duban_parent_skew_seconds", "The parent's clock less the node's, as far as the last exchange makes it certain.", nil, nil)
	clockDesc      = prometheus.NewDesc("duban_clock_stopped", "1 while nothing is recorded because the node's clock is not believed.", nil, nil)
	silentDesc     = prometheus.NewDesc("duban_journal_silent", "1 where nothing came of a journal from below for longer than intervals.silence.", []string{"code"}, nil)
	leaderDesc     = prometheus.NewDesc("duban_leader", "1 while this replica leads.", nil, nil)
)

// collector reads the node's state when it is asked; it holds none.
type collector struct{ n *Node }

// Describe lists the metrics.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{entriesDesc, waitingDesc, checkpointDesc, skewDesc, stoppedDesc, refusedDesc, parentDesc, aheadDesc, clockDesc, silentDesc, leaderDesc} {
		to <- d
	}
}

// Collect reads them.
func (c collector) Collect(to chan<- prometheus.Metric) {
	n := c.n
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var acknowledged map[journal.ID]uint64
	if n.uplink != nil {
		u := n.uplink.Status()
		acknowledged = u.Acknowledged
		gauge(parentDesc, number(u.Connected))
		gauge(aheadDesc, (time.Duration(u.Skew) * time.Microsecond).Seconds())
	}
	_, leads := n.store.Leader()
	gauge(leaderDesc, number(leads))
	gauge(clockDesc, number(n.recorder.stopped() != nil))
	for _, info := range n.store.Journals() {
		code := info.ID.String()
		if m, ok := n.tree.Journal(info.ID); ok {
			code = string(m.Code)
		}
		gauge(entriesDesc, float64(info.Size), code)
		gauge(stoppedDesc, number(info.Stopped != ""), code)
		if n.uplink != nil {
			gauge(waitingDesc, float64(info.Size-min(info.Size, acknowledged[info.ID])), code)
		}
	}
	if n.downlink == nil {
		return
	}
	now := clock.Micros(n.clock.Now())
	for id, s := range n.downlink.Status() {
		m, ok := n.tree.Journal(id)
		if !ok {
			continue
		}
		code := string(m.Code)
		gauge(silentDesc, number(n.silentSince(id, now) != 0), code)
		gauge(refusedDesc, number(s.Refused != ""), code)
		gauge(skewDesc, (time.Duration(s.Skew) * time.Microsecond).Seconds(), code)
		if s.Checkpoint != 0 {
			gauge(checkpointDesc, (time.Duration(now-s.Checkpoint) * time.Microsecond).Seconds(), code)
		}
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
