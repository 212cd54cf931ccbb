package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// pages are what machines that watch the node ask for: /metrics, /healthz (the process lives) and /readyz (it takes work).
// They tell no content of any record.
type pages struct {
	listener net.Listener
	server   *http.Server
}

const pageTimeout = 10 * time.Second

// openPages listens; ready says why the node takes no work, or nil.
func openPages(address string, metrics *prometheus.Registry, ready func(context.Context) error) (*pages, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, refused("metrics.listen", "%v", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answer(w, ready(r.Context())) })
	return &pages{listener: l, server: &http.Server{Handler: mux, ReadHeaderTimeout: pageTimeout, WriteTimeout: 3 * pageTimeout}}, nil
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(err.Error() + "\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// run serves until ctx ends.
func (p *pages) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.server.Close() })
	defer stop()
	if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return err
	}
	return nil
}

func (p *pages) close() error { return p.server.Close() }
