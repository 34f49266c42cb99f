package main

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"

	"thaw"
	"thaw/edge"
	"thaw/invoke"
	"thaw/state"
	"thaw/telemetry/emf"
	"thaw/telemetry/exposition"
	"thaw/telemetry/metrics"
	"thaw/telemetry/records"
	"thaw/telemetry/traces"
	"thaw/telemetry/xray"
)

// telemetrySide is what watches invocations and keeps what was seen.
type telemetrySide struct {
	recorder *records.Recorder
	sample   invoke.Sample // nil: nothing is traced
	metrics  *metrics.Metrics
	scraped  *exposition.Exposition
	embedded *emf.Extractor              // takes metrics out of logs
	gauges   atomic.Pointer[gaugeSource] // for metrics
}

// telemetryParts are what it stands on.
type telemetryParts struct {
	cfg     *config
	account thaw.Account
	store   *state.Store
	up      <-chan struct{} // closed when the platform is up
	log     *slog.Logger
}

// startTelemetry starts what takes records. It is started before what makes them, and so stops after it.
func startTelemetry(ctx context.Context, p *telemetryParts, g *group) (*telemetrySide, error) {
	s := &telemetrySide{}
	node, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	s.scraped = exposition.New(exposition.Config{MaxFunctions: p.cfg.Metrics.MaxFunctions, Version: version})
	var sinks []func([]thaw.Invocation)
	if to := p.cfg.Traces.Endpoint; to != "" {
		sender, err := traces.New(traces.Config{Endpoint: to, Headers: p.cfg.Traces.Headers, Account: p.account, Node: node, Version: version, Log: p.log})
		if err != nil {
			return nil, err
		}
		g.run(ctx, "traces", sender.Run)
		exposeDropped(s.scraped, "traces", sender.Dropped)
		exposeDropped(s.scraped, "spans", sender.Failed)
		sinks = append(sinks, sender.Invocations)
		s.sample = xray.NewSampler(p.cfg.Traces.Sample).Sample
	}
	if s.metrics, err = openMetrics(ctx, p, g, &s.gauges, s.scraped); err != nil {
		return nil, err
	}
	s.embedded = &emf.Extractor{Put: s.metrics.Put, Log: p.log}
	sinks = append(sinks, s.metrics.Invocations, s.scraped.Invocations)
	s.recorder = records.New(records.Config{
		Store: p.store.Invocations(state.InvocationsConfig{MaxAge: p.cfg.Invocations.MaxAge, MaxBytes: p.cfg.Invocations.MaxBytes}),
		Sinks: sinks, Node: node, Log: p.log,
	})
	g.run(ctx, "invocation records", s.recorder.Run)
	return s, nil
}

// record takes the records of invocations that have ended; nil where none are kept.
func (s *telemetrySide) record(cfg *config) func(*thaw.Invocation) {
	if !cfg.Telemetry.Invocations {
		return nil
	}
	return s.recorder.Add
}

// kept are the records; nil where none are kept.
func (s *telemetrySide) kept(cfg *config) edge.Records {
	if !cfg.Telemetry.Invocations {
		return nil
	}
	return s.recorder
}

// profiled takes the profiles of inits; nil where inits are not measured.
func (s *telemetrySide) profiled(cfg *config) func(*thaw.InitProfile) {
	if !cfg.Telemetry.InitProfile {
		return nil
	}
	return s.recorder.Profiled
}

// throttled takes note of an invocation that was refused.
func (s *telemetrySide) throttled(function, qualifier, reason string) {
	s.metrics.Throttled(function, qualifier, reason)
}
