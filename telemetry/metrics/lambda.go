package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"thaw"
)

// Namespaces of the platform's own metrics.
const (
	NamespaceLambda   = "AWS/Lambda"     // AWS's names and units
	NamespaceInsights = "LambdaInsights" // of Lambda Insights' metrics those that are measured
	NamespaceThaw     = "thaw"           // what AWS has no metric for
)

// Dimensions of the platform's own metrics, in AWS's words.
const (
	DimensionFunction        = "FunctionName"
	DimensionResource        = "Resource"        // the function's name, with the qualifier that the caller named
	DimensionExecutedVersion = "ExecutedVersion" // of invocations through an alias
	DimensionStartKind       = "StartKind"       // of the namespace thaw
	DimensionCause           = "Cause"
	DimensionPhase           = "Phase"
	DimensionReason          = "Reason"
)

// The platform's metrics of one invocation, as indices.
const (
	invocations = iota
	errorsMetric
	throttles
	duration
	provisionedInvocations
	spillovers
	asyncAge
	postRuntime
	initDuration
	memoryUtilization
	totalMemory
	usedMemory
	timeouts
	billed
	numOwn
)

// ownMetrics are their names. Those of AWS/Lambda exist without dimensions too, over all functions.
var ownMetrics = [numOwn]struct{ namespace, name, unit string }{
	invocations:            {NamespaceLambda, "Invocations", UnitCount},
	errorsMetric:           {NamespaceLambda, "Errors", UnitCount},
	throttles:              {NamespaceLambda, "Throttles", UnitCount},
	duration:               {NamespaceLambda, "Duration", UnitMilliseconds},
	provisionedInvocations: {NamespaceLambda, "ProvisionedConcurrencyInvocations", UnitCount},
	spillovers:             {NamespaceLambda, "ProvisionedConcurrencySpilloverInvocations", UnitCount},
	asyncAge:               {NamespaceLambda, "AsyncEventAge", UnitMilliseconds},
	postRuntime:            {NamespaceLambda, "PostRuntimeExtensionsDuration", UnitMilliseconds},
	initDuration:           {NamespaceInsights, "init_duration", UnitMilliseconds},
	memoryUtilization:      {NamespaceInsights, "memory_utilization", UnitPercent},
	totalMemory:            {NamespaceInsights, "total_memory", UnitMegabytes},
	usedMemory:             {NamespaceInsights, "used_memory_max", UnitMegabytes},
	timeouts:               {NamespaceThaw, "Timeouts", UnitCount},
	billed:                 {NamespaceThaw, "BilledDuration", UnitMilliseconds},
}

// Names in NamespaceThaw that have a dimension besides the function.
const (
	MetricStarts    = "Starts"            // by StartKind: each invocation counts 1
	MetricColdStart = "ColdStartDuration" // by StartKind: from the request to the handler, of every start that was not warm
	MetricCauses    = "ColdStartCauses"   // by Cause: each start that was not warm counts 1
	MetricPhase     = "PhaseDuration"     // by Phase: of starts that were not warm
	MetricThrottles = "Throttles"         // by Reason: each refused invocation counts 1
)

// functionKey is what invocations are told apart by.
type functionKey struct{ function, version, alias string }

// functionSeries are the series of the invocations of one key, found when they are first needed.
type functionSeries struct {
	own    [numOwn]*series
	starts map[thaw.StartKind]*startSeries
	phases [thaw.NumPhases]*series
	causes map[thaw.Cause]*series
}

type startSeries struct{ count, cold, all *series }

// lambdaSeries remembers series, so that no identity is made for each invocation.
type lambdaSeries struct {
	functions map[functionKey]*functionSeries
	account   [numOwn]*series
}

func newLambdaSeries() lambdaSeries {
	return lambdaSeries{functions: map[functionKey]*functionSeries{}}
}

// Invocations adds the metrics of finished invocations. It is a sink of the recorder. A value's time is that at which its
// invocation began, as AWS's is.
func (m *Metrics) Invocations(records []thaw.Invocation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	if m.memory.full() {
		m.memory.refused[reasonMemory] += uint64(len(records))
		return
	}
	for i := range records {
		m.invocation(&records[i])
	}
	m.askForFlush()
}

func (m *Metrics) invocation(r *thaw.Invocation) {
	key := functionKey{r.Function, r.Version, r.Alias}
	f := m.lambda.functions[key]
	if f == nil {
		f = &functionSeries{starts: map[thaw.StartKind]*startSeries{}, causes: map[thaw.Cause]*series{}}
		m.lambda.functions[key] = f
	}
	slot := slotOf(r.Start, 60)
	add := func(metric int, v float64) { m.addOwn(f, key, metric, slot, v) }
	add(invocations, 1)
	add(errorsMetric, flag(r.Failed || r.ErrorType != ""))
	add(throttles, 0)
	add(duration, milliseconds(r.Duration))
	add(timeouts, flag(r.TimedOut))
	add(billed, milliseconds(r.Billed))
	switch {
	case r.Provisioned:
		add(provisionedInvocations, 1)
	case r.SpilledOver:
		add(spillovers, 1)
	}
	if r.Async {
		add(asyncAge, milliseconds(r.EventAge))
	}
	if r.PostRuntime > 0 {
		add(postRuntime, milliseconds(r.PostRuntime))
	}
	if r.InitDuration > 0 {
		add(initDuration, milliseconds(r.InitDuration))
	}
	if r.MemorySize > 0 && r.MaxMemoryUsed > 0 {
		add(totalMemory, float64(r.MemorySize))
		add(usedMemory, float64(r.MaxMemoryUsed))
		add(memoryUtilization, 100*float64(r.MaxMemoryUsed)/float64(r.MemorySize))
	}
	m.start(f, r, slot)
}

// start adds how the environment came to be.
func (m *Metrics) start(f *functionSeries, r *thaw.Invocation, slot int64) {
	if r.Kind == "" {
		return
	}
	s := f.starts[r.Kind]
	if s == nil {
		kind := Dimension{DimensionStartKind, string(r.Kind)}
		s = &startSeries{
			count: m.thawSeries(MetricStarts, UnitCount, r.Function, kind),
			cold:  m.thawSeries(MetricColdStart, UnitMilliseconds, r.Function, kind),
			all:   m.thawSeries(MetricStarts, UnitCount, "", kind),
		}
		f.starts[r.Kind] = s
	}
	m.addTo(s.count, slot, 1)
	m.addTo(s.all, slot, 1)
	if r.Kind == thaw.StartWarm {
		return
	}
	m.addTo(s.cold, slot, milliseconds(r.Phases[thaw.PhaseHandler].Start))
	if r.Cause != "" {
		c := f.causes[r.Cause]
		if c == nil {
			c = m.thawSeries(MetricCauses, UnitCount, r.Function, Dimension{DimensionCause, string(r.Cause)})
			f.causes[r.Cause] = c
		}
		m.addTo(c, slot, 1)
	}
	for phase := range thaw.NumPhases {
		if r.Phases[phase].Length <= 0 || phase >= thaw.PhaseHandler {
			continue
		}
		if f.phases[phase] == nil {
			f.phases[phase] = m.thawSeries(MetricPhase, UnitMilliseconds, r.Function, Dimension{DimensionPhase, phase.String()})
		}
		m.addTo(f.phases[phase], slot, milliseconds(r.Phases[phase].Length))
	}
}

// addOwn adds to a metric of a function and, in AWS/Lambda, to that over all functions.
func (m *Metrics) addOwn(f *functionSeries, key functionKey, metric int, slot int64, v float64) {
	of := &ownMetrics[metric]
	if f.own[metric] == nil {
		f.own[metric] = m.find(of.namespace, of.name, of.unit, ownDimensions(of.namespace, key))
	}
	m.addTo(f.own[metric], slot, v)
	if of.namespace != NamespaceLambda {
		return
	}
	if m.lambda.account[metric] == nil {
		m.lambda.account[metric] = m.find(of.namespace, of.name, of.unit, nil)
	}
	m.addTo(m.lambda.account[metric], slot, v)
}

// ownDimensions are a function's in a namespace, from the widest to the narrowest.
func ownDimensions(namespace string, key functionKey) []Dimension {
	switch namespace {
	case NamespaceInsights:
		return []Dimension{{"function_name", key.function}, {"version", key.version}}
	case NamespaceThaw:
		return []Dimension{{DimensionFunction, key.function}}
	}
	qualifier := key.alias
	if qualifier == "" && key.version != thaw.Latest {
		qualifier = key.version
	}
	dimensions := []Dimension{{DimensionFunction, key.function}, {DimensionResource, resource(key.function, qualifier)}}
	if key.alias != "" {
		dimensions = append(dimensions, Dimension{DimensionExecutedVersion, key.version})
	}
	return dimensions
}

func resource(function, qualifier string) string {
	if qualifier == "" || qualifier == thaw.Latest {
		return function
	}
	return function + ":" + qualifier
}

// thawSeries finds a series of NamespaceThaw: of a function, or of all where it is empty.
func (m *Metrics) thawSeries(name, unit, function string, by Dimension) *series {
	if function == "" {
		return m.find(NamespaceThaw, name, unit, []Dimension{by})
	}
	return m.find(NamespaceThaw, name, unit, []Dimension{{DimensionFunction, function}, by})
}

// find gives one of the platform's own series; nil where there are too many. The caller holds mu.
func (m *Metrics) find(namespace, name, unit string, dimensions []Dimension) *series {
	id := identity{Metric: Metric{namespace, name, dimensions}, Unit: unit, Resolution: 60, Own: len(dimensions) > 1}
	return m.memory.find(&id, m.buffer)
}

func (m *Metrics) addTo(s *series, slot int64, v float64) {
	if s == nil {
		m.memory.refused[reasonSeries]++
		return
	}
	m.memory.add(s, slot, v, 1)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Throttled counts an invocation that was refused; it is cheap enough for the request path. Reason is AWS's.
func (m *Metrics) Throttled(function, qualifier, reason string) {
	m.counts.add(eventKey{"Throttles", function, qualifier, ""}, 1)
	m.counts.add(eventKey{MetricThrottles, function, "", reason}, 1)
}

// Count adds to one of the platform's own metrics of the namespace AWS/Lambda, such as AsyncEventsReceived or DeadLetterErrors:
// n values of 1, by function, by function and qualifier, and in all. It is cheap enough for the request path.
func (m *Metrics) Count(name, function, qualifier string, n int) {
	m.counts.add(eventKey{name, function, qualifier, ""}, uint64(max(n, 0)))
}

// Observe adds one value to such a metric.
func (m *Metrics) Observe(name, function, qualifier, unit string, value float64) {
	slot := slotOf(m.cfg.Now(), 60)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	m.addTo(m.find(NamespaceLambda, name, unit, []Dimension{{DimensionFunction, function}, {DimensionResource, resource(function, qualifier)}}), slot, value)
	m.addTo(m.find(NamespaceLambda, name, unit, nil), slot, value)
}

// events are counted on the request path, without a lock, and drained once a second.
type events struct {
	current  atomic.Pointer[eventMap]
	previous *eventMap // of the drain alone: some may still be adding to it
	drains   int
	lost     atomic.Uint64
}

// eventMap is never tidied up while it is added to; after renewAfter drains a new one takes its place.
type eventMap struct {
	counts sync.Map // eventKey to *atomic.Uint64
	size   atomic.Int64
}

type eventKey struct{ name, function, qualifier, reason string }

const (
	maxEvents  = 20_000 // of one map
	renewAfter = 600    // drains
)

func (e *events) init() { e.current.Store(&eventMap{}) }

func (e *events) add(key eventKey, n uint64) {
	current := e.current.Load()
	counter, known := current.counts.Load(key)
	if !known {
		if current.size.Load() >= maxEvents {
			e.lost.Add(n)
			return
		}
		var loaded bool
		if counter, loaded = current.counts.LoadOrStore(key, new(atomic.Uint64)); !loaded {
			current.size.Add(1)
		}
	}
	counter.(*atomic.Uint64).Add(n)
}

func (e *events) drain(fn func(eventKey, uint64)) {
	all := []*eventMap{e.current.Load(), e.previous}
	e.previous = nil
	if e.drains++; e.drains >= renewAfter {
		e.drains = 0
		e.previous = e.current.Swap(&eventMap{})
	}
	for _, events := range all {
		if events == nil {
			continue
		}
		events.counts.Range(func(key, counter any) bool {
			if n := counter.(*atomic.Uint64).Swap(0); n > 0 {
				fn(key.(eventKey), n)
			}
			return true
		})
	}
}

// addCounts adds what was counted on the request path. The caller holds mu.
func (m *Metrics) addCounts(now time.Time) {
	slot := slotOf(now, 60)
	m.memory.refused[reasonSeries] += m.counts.lost.Swap(0)
	m.counts.drain(func(key eventKey, n uint64) {
		var all []*series
		if key.reason != "" {
			all = append(all, m.thawSeries(key.name, UnitCount, key.function, Dimension{DimensionReason, key.reason}))
		} else {
			all = append(all,
				m.find(NamespaceLambda, key.name, UnitCount, []Dimension{{DimensionFunction, key.function}, {DimensionResource, resource(key.function, key.qualifier)}}),
				m.find(NamespaceLambda, key.name, UnitCount, nil))
		}
		for _, s := range all {
			if s == nil {
				m.memory.refused[reasonSeries] += n
				continue
			}
			m.memory.add(s, slot, 1, float64(n))
		}
	})
}
