package main

import (
	"context"
	"path/filepath"
	"sync/atomic"

	"thaw"
	"thaw/invoke"
	"thaw/placement"
	"thaw/telemetry"
	"thaw/telemetry/exposition"
	"thaw/telemetry/metrics"
	"thaw/telemetry/records"
)

// gaugeSource is what is told about once a second, after what is asked has been made.
type gaugeSource struct {
	functions func(after string, limit int) []*thaw.Function
	invoker   *invoke.Invoker
	placer    *placement.Placer
}

// openMetrics makes the store of metrics. It opens what is stored in the background, when the platform is up.
func openMetrics(ctx context.Context, p *telemetryParts, g *group, source *atomic.Pointer[gaugeSource], scraped *exposition.Exposition) (*metrics.Metrics, error) {
	m, err := metrics.Open(metrics.Config{
		Dir: filepath.Join(p.cfg.Data, "metrics"), MaxAge: p.cfg.Metrics.MaxAge, MaxBytes: p.cfg.Metrics.MaxBytes,
		MaxSeries: p.cfg.Metrics.MaxSeries, OnThrottled: scraped.Throttled, Log: p.log,
		Gauges: func() []metrics.Gauge {
			if s := source.Load(); s != nil {
				return s.gauges()
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	g.run(ctx, "metrics", func(ctx context.Context) error {
		// To read what is stored of a thousand functions takes a processor for more than a second, which the start needs itself.
		select {
		case <-p.up:
		case <-ctx.Done():
		}
		return m.Run(ctx)
	})
	exposeMetrics(scraped, m)
	return m, nil
}

// exposeMetrics adds what /metrics tells of the store of metrics.
func exposeMetrics(scraped *exposition.Exposition, m *metrics.Metrics) {
	scraped.Gauge("thaw_metrics_series", "Metrics that the store of metrics knows.", func() float64 { return float64(m.Stats().Series) })
	scraped.Gauge("thaw_metrics_stored_bytes", "Bytes that the store of metrics has on disk.", func() float64 { return float64(m.Stats().Stored) })
	for reason := range m.Stats().Refused {
		scraped.Counter("thaw_metrics_refused_total", "Values that the store of metrics did not take, or not for certain, by the reason.",
			map[string]string{"reason": reason}, func() float64 { return float64(m.Stats().Refused[reason]) })
	}
}

// exposePlatform adds what /metrics tells of the node. It is called once all of it has been made.
func exposePlatform(scraped *exposition.Exposition, invoker *invoke.Invoker, placer *placement.Placer, logs *telemetry.Logs, recorder *records.Recorder) {
	total := func(name, help string, of func(t *placement.Totals) int64) {
		scraped.Gauge(name, help, func() float64 { t := placer.Totals(); return float64(of(&t)) })
	}
	total("thaw_environments", "Environments that are made, being made or being closed.", func(t *placement.Totals) int64 { return int64(t.Environments) })
	total("thaw_environments_busy", "Environments that serve.", func(t *placement.Totals) int64 { return int64(t.By.Busy) })
	total("thaw_environments_idle", "Environments that have served and wait.", func(t *placement.Totals) int64 { return int64(t.By.Idle) })
	total("thaw_environments_spare", "Environments that have served nothing yet.", func(t *placement.Totals) int64 { return int64(t.By.Spares) })
	total("thaw_environments_memory_bytes", "Memory that the environments may need together.", func(t *placement.Totals) int64 { return t.Memory })
	total("thaw_templates", "Templates that environments are forked from.", func(t *placement.Totals) int64 { return int64(t.Templates) })
	scraped.Gauge("thaw_concurrency_limit", "The account's limit of concurrent executions.", func() float64 { return float64(invoker.AccountUsage().Limit) })
	scraped.Gauge("thaw_concurrency_claimed", "Concurrency that is reserved or provisioned.", func() float64 { return float64(invoker.AccountUsage().Claimed) })
	scraped.Gauge("thaw_concurrency_unreserved", "Unreserved concurrency in use.", func() float64 { return float64(invoker.AccountUsage().Unreserved) })
	exposeDropped(scraped, "log events", logs.Dropped)
	exposeDropped(scraped, "invocation records", recorder.Dropped)
	scraped.Counter("thaw_init_profiles_left_out_total", "Profiles of inits that came too fast, or were none.", nil, func() float64 { return float64(placer.ProfilesLost()) })
}

func exposeDropped[N int64 | uint64](scraped *exposition.Exposition, what string, fn func() N) {
	scraped.Counter("thaw_telemetry_dropped_total", "What telemetry lost, since it came faster than it could be kept.", map[string]string{"what": what}, func() float64 { return float64(fn()) })
}

// functionsAtOnce is how many functions are read from the catalog together.
const functionsAtOnce = 500

// gauges are the concurrency metrics of now, of AWS's names. What is zero is left out.
func (s *gaugeSource) gauges() []metrics.Gauge {
	var all []metrics.Gauge
	add := func(name, unit string, v float64, dimensions ...metrics.Dimension) {
		all = append(all, metrics.Gauge{Metric: metrics.Metric{Namespace: metrics.NamespaceLambda, Name: name, Dimensions: dimensions}, Unit: unit, Value: v})
	}
	running := int64(0)
	for after := ""; ; {
		functions := s.functions(after, functionsAtOnce)
		for _, f := range functions {
			of := metrics.Dimension{Name: metrics.DimensionFunction, Value: f.Name}
			usage := s.invoker.Usage(f.Name)
			if n := usage.OnDemand + usage.Provisioned; n > 0 {
				running += n
				add(metrics.MetricConcurrent, metrics.UnitCount, float64(n), of)
			}
			for qualifier := range f.Provisioned {
				busy, made, ok := s.placer.ProvisionedUse(f.Name, qualifier)
				if !ok {
					continue
				}
				to := metrics.Dimension{Name: metrics.DimensionResource, Value: f.Name + ":" + qualifier}
				add("ProvisionedConcurrentExecutions", metrics.UnitCount, float64(busy), of, to)
				add("ProvisionedConcurrencyUtilization", metrics.UnitNone, float64(busy)/float64(made), of, to)
			}
		}
		if len(functions) < functionsAtOnce {
			break
		}
		after = functions[len(functions)-1].Name
	}
	account := s.invoker.AccountUsage()
	if running > 0 {
		add(metrics.MetricConcurrent, metrics.UnitCount, float64(running))
		add("UnreservedConcurrentExecutions", metrics.UnitCount, float64(account.Unreserved))
	}
	if account.Claimed+account.Unreserved > 0 {
		add("ClaimedAccountConcurrency", metrics.UnitCount, float64(account.Claimed+account.Unreserved))
	}
	return all
}
