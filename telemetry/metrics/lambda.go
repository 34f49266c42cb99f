package metrics

import (
	"cmp"
	"slices"
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
	DimensionMapping         = "EventSourceMappingUUID"
	DimensionStartKind       = "StartKind" // of the namespace thaw
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
}

// Names in NamespaceThaw that have a dimension besides the function.
const (
	MetricStarts    = "Starts"            // by StartKind: each invocation counts 1
	MetricColdStart = "ColdStartDuration" // by StartKind: from the request to the handler, of every start that was not warm and came to it
	MetricCauses    = "ColdStartCauses"   // by Cause: each start that was not warm counts 1
	MetricPhase     = "PhaseDuration"     // by Phase: of starts that were not warm
	MetricThrottles = "Throttles"         // by Reason: each refused invocation counts 1
)

// MetricConcurrent is in NamespaceLambda, and for readers of its Maximum.
const MetricConcurrent = "ConcurrentExecutions"

// functionKey is what invocations are told apart by.
type functionKey struct{ function, version, alias string }

// functionSeries are the series of the invocations of one key, found when they are first needed.
type functionSeries struct {
	key     functionKey
	own     [numOwn]tally
	starts  map[thaw.StartKind]*startSeries
	phases  [thaw.NumPhases]*series
	causes  map[thaw.Cause]*series
	touched bool
}

type startSeries struct {
	count, all tally
	cold       *series
}

// tally puts equal values of one batch together, which most of an invocation's are: adding to a histogram costs more.
type tally struct {
	series *series
	slot   int64
	v, n   float64
}

// lambdaSeries remembers series, so that no identity is made for each invocation.
type lambdaSeries struct {
	functions map[functionKey]*functionSeries
	account   [numOwn]tally
	touched   []*functionSeries // have tallies that count something
	moves     []move            // for concurrency to reuse
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
	m.settleTallies()
	m.concurrency(records)
	m.askForFlush()
}

func (m *Metrics) invocation(r *thaw.Invocation) {
	key := functionKey{r.Function, r.Version, r.Alias}
	f := m.lambda.functions[key]
	if f == nil {
		f = &functionSeries{key: key, starts: map[thaw.StartKind]*startSeries{}, causes: map[thaw.Cause]*series{}}
		m.lambda.functions[key] = f
	}
	if !f.touched {
		f.touched = true
		m.lambda.touched = append(m.lambda.touched, f)
	}
	slot := slotOf(r.Start, 60)
	add := func(metric int, v float64) { m.addOwn(f, metric, slot, v) }
	add(invocations, 1)
	add(errorsMetric, flag(r.Failed || r.ErrorType != ""))
	add(throttles, 0)
	add(duration, milliseconds(r.Duration))
	add(timeouts, flag(r.TimedOut))
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

// concurrency adds how many invocations of these ran at the same time at most, of each function and of all. What runs for longer is
// seen by the gauges that are polled; this sees what is shorter than a second.
func (m *Metrics) concurrency(records []thaw.Invocation) {
	moves := m.lambda.moves[:0]
	for i := range records {
		r := &records[i]
		served := r.Phases[thaw.PhaseHandler]
		begin := r.Start.UnixNano()
		end := begin + int64(served.Start+served.Length)
		moves = append(moves, move{begin, i, 1}, move{max(end, begin+1), i, -1})
	}
	slices.SortFunc(moves, func(a, b move) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	type peak struct{ now, most int }
	running := map[string]*peak{}
	var all peak
	up := func(p *peak, by int) { p.now += by; p.most = max(p.most, p.now) }
	for _, move := range moves {
		name := records[move.record].Function
		p := running[name]
		if p == nil {
			p = &peak{}
			running[name] = p
		}
		up(p, move.by)
		up(&all, move.by)
	}
	m.lambda.moves = moves
	slot := int64(0)
	for i := range records {
		slot = max(slot, slotOf(records[i].Start, 60))
	}
	for name, p := range running {
		m.addTo(m.find(NamespaceLambda, MetricConcurrent, UnitCount, []Dimension{{DimensionFunction, name}}), slot, float64(p.most), 1)
	}
	if all.most > 0 {
		m.addTo(m.find(NamespaceLambda, MetricConcurrent, UnitCount, nil), slot, float64(all.most), 1)
	}
}

// move is a beginning (+1) or an end (-1) of a record's invocation.
type move struct {
	at     int64 // ns
	record int
	by     int
}

// start adds how the environment came to be.
func (m *Metrics) start(f *functionSeries, r *thaw.Invocation, slot int64) {
	if r.Kind == "" {
		return
	}
	s := f.starts[r.Kind]
	if s == nil {
		kind := Dimension{DimensionStartKind, string(r.Kind)}
		s = &startSeries{}
		s.count.series = m.thawSeries(MetricStarts, UnitCount, r.Function, kind)
		s.all.series = m.thawSeries(MetricStarts, UnitCount, "", kind)
		f.starts[r.Kind] = s
	}
	m.tally(&s.count, slot, 1)
	m.tally(&s.all, slot, 1)
	if r.Kind == thaw.StartWarm {
		return
	}
	if s.cold == nil {
		s.cold = m.thawSeries(MetricColdStart, UnitMilliseconds, r.Function, Dimension{DimensionStartKind, string(r.Kind)})
	}
	if handler := r.Phases[thaw.PhaseHandler]; handler.Length > 0 { // not of an init that failed
		m.addTo(s.cold, slot, milliseconds(handler.Start), 1)
	}
	if r.Cause != "" {
		c := f.causes[r.Cause]
		if c == nil {
			c = m.thawSeries(MetricCauses, UnitCount, r.Function, Dimension{DimensionCause, string(r.Cause)})
			f.causes[r.Cause] = c
		}
		m.addTo(c, slot, 1, 1)
	}
	for phase := range thaw.NumPhases {
		if r.Phases[phase].Length <= 0 || phase >= thaw.PhaseHandler {
			continue
		}
		if f.phases[phase] == nil {
			f.phases[phase] = m.thawSeries(MetricPhase, UnitMilliseconds, r.Function, Dimension{DimensionPhase, phase.String()})
		}
		m.addTo(f.phases[phase], slot, milliseconds(r.Phases[phase].Length), 1)
	}
}

// addOwn adds to a metric of a function and, in AWS/Lambda, to that over all functions.
func (m *Metrics) addOwn(f *functionSeries, metric int, slot int64, v float64) {
	of := &ownMetrics[metric]
	t := &f.own[metric]
	if t.series == nil {
		t.series = m.find(of.namespace, of.name, of.unit, ownDimensions(of.namespace, f.key))
	}
	m.tally(t, slot, v)
	if of.namespace != NamespaceLambda {
		return
	}
	all := &m.lambda.account[metric]
	if all.series == nil {
		all.series = m.find(of.namespace, of.name, of.unit, nil)
	}
	m.tally(all, slot, v)
}

func (m *Metrics) tally(t *tally, slot int64, v float64) {
	if t.n > 0 && (t.v != v || t.slot != slot) {
		m.settleTally(t)
	}
	t.slot, t.v = slot, v
	t.n++
}

func (m *Metrics) settleTally(t *tally) {
	if t.n > 0 {
		m.addTo(t.series, t.slot, t.v, t.n)
		t.n = 0
	}
}

func (m *Metrics) settleTallies() {
	for _, f := range m.lambda.touched {
		f.touched = false
		for i := range f.own {
			m.settleTally(&f.own[i])
		}
		for _, s := range f.starts {
			m.settleTally(&s.count)
			m.settleTally(&s.all)
		}
	}
	clear(m.lambda.touched)
	m.lambda.touched = m.lambda.touched[:0]
	for i := range m.lambda.account {
		m.settleTally(&m.lambda.account[i])
	}
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
	return m.memory.find(&id)
}

func (m *Metrics) addTo(s *series, slot int64, v, count float64) {
	if s == nil {
		m.memory.refused[reasonSeries] += uint64(count)
		return
	}
	m.memory.add(s, slot, v, count)
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

// Mapping adds one value, a number of messages that may be 0, to a metric of an event source mapping.
func (m *Metrics) Mapping(uuid, name string, messages int) {
	slot := slotOf(m.cfg.Now(), 60)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped || m.memory.full() {
		m.memory.refused[reasonMemory]++
		return
	}
	m.addTo(m.find(NamespaceLambda, name, UnitCount, []Dimension{{DimensionMapping, uuid}}), slot, float64(messages), 1)
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
			if m.cfg.OnThrottled != nil {
				m.cfg.OnThrottled(key.function, key.reason, int(n))
			}
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
