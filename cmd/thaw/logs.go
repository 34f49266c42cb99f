package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"thaw"
	"thaw/awsapi"
	controllogs "thaw/control/logs"
	"thaw/invoke"
	"thaw/invoke/async"
	"thaw/state"
	"thaw/telemetry"
	"thaw/telemetry/emf"
	"thaw/telemetry/groups"
	"thaw/telemetry/metrics"
	"thaw/telemetry/xray"
	"thaw/trigger/subscription"
)

// logSide is CloudWatch Logs: its API, and what delivers for it.
type logSide struct {
	services map[string]func(*awsapi.Service)
	// stopTails ends the requests that follow logs.
	stopTails func()
}

// logParts are what it stands on.
type logParts struct {
	cfg     *config
	account thaw.Account
	store   *state.Store
	logs    *telemetry.Logs
	async   *async.Dispatcher
	metrics *metrics.Metrics
	// embedded takes metrics out of what is put through the API; what functions write it has seen before.
	embedded *emf.Extractor
	log      *slog.Logger
}

// watchedLogs are stored logs of which metrics are taken out.
type watchedLogs struct {
	*state.Store
	embedded *emf.Extractor
}

// AppendLog stores a batch of a client's events, and takes its metrics.
func (w watchedLogs) AppendLog(ctx context.Context, group, meta string, data []byte) (sequence uint64, err error) {
	if sequence, err = w.Store.AppendLog(ctx, group, meta, data); err == nil {
		w.embedded.Batch(group, data)
	}
	return sequence, err
}

// startLogs starts what knows, queries and delivers logs. A store with many logs is read in the background.
func startLogs(ctx context.Context, p *logParts, g *group) (*logSide, error) {
	settings := groups.NewSettings(p.store)
	index, err := groups.New(groups.Config{
		Store: watchedLogs{p.store, p.embedded}, Settings: settings, Flush: p.logs.Flush, Snapshot: filepath.Join(p.cfg.Data, "log-index"), Log: p.log,
	})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "log groups", index.Run)
	filters, err := subscription.New(subscription.Config{
		Account: p.account, Store: p.store, Groups: index, Settings: settings, Functions: p.store, PutMetrics: p.metrics.Put, Log: p.log,
		Enqueue: func(ctx context.Context, i subscription.Invocation) error {
			trace := invoke.TraceHead(&invoke.Request{Start: time.Now()}) + ";" + xray.LineageKey + i.Lineage
			_, err := p.async.Enqueue(ctx, &async.Event{Function: i.Function, Payload: i.Payload, TraceID: trace, RequestID: i.ID, Wait: true, Once: true})
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "log filters", filters.Run)
	api, err := controllogs.New(controllogs.Config{Account: p.account, Groups: index, Functions: p.store, Log: p.log})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "log queries", api.Run)
	return &logSide{services: map[string]func(*awsapi.Service){"logs": api.Register}, stopTails: api.StopTails}, nil
}
