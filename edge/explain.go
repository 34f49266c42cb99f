package edge

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"thaw"
	"thaw/telemetry/anatomy"
	"thaw/telemetry/records"
)

// Records are those of the invocations that have ended, and the profiles of inits; *records.Recorder is one.
type Records interface {
	Request(ctx context.Context, requestID string) ([]thaw.Invocation, error)
	Invocations(ctx context.Context, q records.Query) ([]thaw.Invocation, error)
	Profiles(ctx context.Context, function string, ids ...string) ([]thaw.InitProfile, error)
	Dropped() uint64
}

// How many records one answer lists by default and at most, how far back it looks by default, and how many slow starts a
// summary names.
const (
	recordsDefault = 100
	recordsMax     = 1000
	lookBack       = time.Hour
	startsBack     = 24 * time.Hour
	slowestShown   = 5
)

// maxProfiles is how many different profiles one answer shows, the newest.
const maxProfiles = 10

// usualStarts is how many of a function's newest starts, and usualWarm of its newest warm calls, tell what is usual.
const (
	usualStarts = 1000
	usualWarm   = 200
	// warmBack is how far before an invocation warm calls are looked for, to compare with.
	warmBack = 10 * time.Minute
)

func (s *Server) handleRecords() {
	for path, serve := range map[string]http.HandlerFunc{
		"GET /_thaw/invocations/{id}":             s.serveInvocation,
		"GET /_thaw/functions/{name}/invocations": s.serveInvocations,
		"GET /_thaw/functions/{name}/starts":      s.serveStarts,
	} {
		s.native.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if s.cfg.Records == nil {
				s.refuse(w, r, thaw.Errorf(thaw.CodeNotImplemented, "This platform keeps no records of invocations. Set telemetry.invocations to true in its configuration and start it again."))
				return
			}
			serve(w, r)
		})
	}
}

// recordView is the record of one invocation. Lengths of time are in µs unless their name says otherwise.
type recordView struct {
	RequestID   string         `json:"request_id"`
	Function    string         `json:"function"`
	Version     string         `json:"function_version"`
	Alias       string         `json:"alias,omitempty"`
	Start       time.Time      `json:"start"`
	StartKind   thaw.StartKind `json:"start_kind"`
	Cause       thaw.Cause     `json:"cause,omitempty"`
	Total       int64          `json:"total_us"`
	BeforeUser  int64          `json:"before_handler_us"`
	Phases      []phaseView    `json:"phases"`
	Duration    int64          `json:"duration_us"` // the handler's
	Init        int64          `json:"init_us,omitempty"`
	Restore     int64          `json:"restore_us,omitempty"`
	FailedInit  int64          `json:"failed_init_us,omitempty"`
	PostRuntime int64          `json:"post_runtime_us,omitempty"` // of extensions, part of duration_us
	Billed      int64          `json:"billed_ms"`
	Memory      int            `json:"memory_mb"`
	MaxMemory   int            `json:"max_memory_mb"`
	ErrorType   string         `json:"error_type,omitempty"`
	Failed      bool           `json:"failed,omitempty"`
	TimedOut    bool           `json:"timed_out,omitempty"`
	Crashed     bool           `json:"crashed,omitempty"`
	Provisioned bool           `json:"provisioned,omitempty"`
	SpilledOver bool           `json:"spilled_over,omitempty"`
	NodeFull    bool           `json:"node_full,omitempty"`
	Async       bool           `json:"async,omitempty"`
	EventAge    int64          `json:"event_age_us,omitempty"`
	Environment string         `json:"environment"`
	TraceID     string         `json:"trace_id,omitempty"`
	Node        string         `json:"node,omitempty"`
	ProfileID   string         `json:"profile_id,omitempty"`
}

// phaseView is one phase that took time; Start counts from the invocation's.
type phaseView struct {
	Phase  string `json:"phase"`
	Start  int64  `json:"start_us"`
	Length int64  `json:"length_us"`
}

func viewRecord(i *thaw.Invocation) recordView {
	v := recordView{
		RequestID: i.RequestID, Function: i.Function, Version: i.Version, Alias: i.Alias, Start: i.Start.UTC(), StartKind: i.Kind, Cause: i.Cause,
		Total: anatomy.Total(i).Microseconds(), BeforeUser: anatomy.StartTime(i).Microseconds(), Phases: []phaseView{},
		Duration: i.Duration.Microseconds(), Init: i.InitDuration.Microseconds(), Restore: i.RestoreDuration.Microseconds(),
		FailedInit: i.FailedInit.Microseconds(), PostRuntime: i.PostRuntime.Microseconds(), Billed: i.Billed.Milliseconds(), Memory: i.MemorySize, MaxMemory: i.MaxMemoryUsed,
		ErrorType: i.ErrorType, Failed: i.Failed, TimedOut: i.TimedOut, Crashed: i.Crashed, Provisioned: i.Provisioned,
		SpilledOver: i.SpilledOver, NodeFull: i.NodeFull, Async: i.Async, EventAge: i.EventAge.Microseconds(),
		Environment: i.EnvironmentID, TraceID: i.TraceID, Node: i.Node, ProfileID: i.ProfileID,
	}
	for phase, span := range i.Phases {
		if span.Length > 0 {
			v.Phases = append(v.Phases, phaseView{thaw.Phase(phase).String(), span.Start.Microseconds(), span.Length.Microseconds()})
		}
	}
	return v
}

// profileView is what one init spent its time on.
type profileView struct {
	ID          string           `json:"id"`
	Version     string           `json:"function_version"`
	At          time.Time        `json:"at"`
	Length      int64            `json:"length_us"`
	Modules     []moduleView     `json:"modules,omitempty"`
	Connections []connectionView `json:"connections,omitempty"`
	Dropped     int              `json:"dropped,omitempty"`
}

type moduleView struct {
	Name   string `json:"name"`
	Parent int    `json:"parent"`
	Kind   string `json:"kind"`
	File   string `json:"file,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Start  int64  `json:"start_us"`
	Self   int64  `json:"self_us"`
	Total  int64  `json:"total_us"`
	Failed bool   `json:"failed,omitempty"`
}

type connectionView struct {
	Host    string `json:"host,omitempty"`
	Address string `json:"address,omitempty"`
	Start   int64  `json:"start_us"`
	DNS     int64  `json:"dns_us,omitempty"`
	TCP     int64  `json:"tcp_us,omitempty"`
	TLS     int64  `json:"tls_us,omitempty"`
	Module  int    `json:"module"`
	Error   string `json:"error,omitempty"`
}

func viewProfile(p *thaw.InitProfile) *profileView {
	if p == nil {
		return nil
	}
	v := &profileView{ID: p.ID, Version: p.Version, At: p.At.UTC(), Length: p.Length.Microseconds(), Dropped: p.Dropped}
	for i := range p.Modules {
		m := &p.Modules[i]
		v.Modules = append(v.Modules, moduleView{m.Name, m.Parent, m.Kind, m.File, m.Bytes, m.Start.Microseconds(), m.Self.Microseconds(), m.Total.Microseconds(), m.Failed})
	}
	for i := range p.Connections {
		c := &p.Connections[i]
		v.Connections = append(v.Connections, connectionView{c.Host, c.Address, c.Start.Microseconds(), c.DNS.Microseconds(), c.TCP.Microseconds(), c.TLS.Microseconds(), c.Module, c.Error})
	}
	return v
}

// attemptView is one attempt of an invocation, explained.
type attemptView struct {
	recordView
	Verdict anatomy.Verdict `json:"verdict"`
	Profile *profileView    `json:"profile,omitempty"` // of the init that it, or its template, went through
}

// invocationView is everything about one request id. A synchronous invocation has one attempt.
type invocationView struct {
	RequestID string        `json:"request_id"`
	Function  string        `json:"function"`
	Attempts  []attemptView `json:"attempts"`
	Dropped   uint64        `json:"dropped_records,omitempty"` // of all functions, since the platform started
}

// serveInvocation explains one request id.
func (s *Server) serveInvocation(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	list, err := s.cfg.Records.Request(r.Context(), id)
	if err == nil && len(list) == 0 {
		err = noRecord(id, s.cfg.Records.Dropped())
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	view := invocationView{RequestID: id, Function: list[0].Function, Dropped: s.cfg.Records.Dropped()}
	e, err := s.explainer(r.Context(), list[0].Function, list[len(list)-1].Start, list)
	for n := range list {
		attempt := 0
		if list[n].Async {
			attempt = n + 1
		}
		view.Attempts = append(view.Attempts, e.explain(&list[n], attempt))
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeView(w, &view)
}

// noRecord says why there may be no record of a request id.
func noRecord(id string, dropped uint64) error {
	text := "There is no record of the request %s. One that was refused (429, 404, 409 and so on) ran nothing and has none: thaw explain FUNCTION counts those that were throttled, and says why; one that still runs, or waits for its next attempt, has none yet; and records are kept for a set time and size (invocations.max_age, invocations.max_bytes)."
	if dropped > 0 {
		text += " Some records were lost, since the store could not keep up."
	}
	return thaw.Errorf(thaw.CodeResourceNotFound, text, id)
}

// explainer has what the explanation of a function's invocations needs.
type explainer struct {
	server   *Server
	function *thaw.Function // nil: it is gone
	starts   []thaw.Invocation
	profiles []thaw.InitProfile
	warm     anatomy.Usual
}

// explainer reads what is usual of a function, around an instant, and the profiles of what is to be explained, oldest first.
func (s *Server) explainer(ctx context.Context, function string, at time.Time, of []thaw.Invocation) (*explainer, error) {
	e := &explainer{server: s}
	e.function, _ = s.cfg.Catalog.Function(function)
	var err error
	if e.starts, err = s.cfg.Records.Invocations(ctx, records.Query{Function: function, Kinds: coldKinds, Limit: usualStarts}); err != nil {
		return e, err
	}
	var profiles []string
	for n := len(of) - 1; n >= 0 && len(profiles) < maxProfiles; n-- {
		if id := of[n].ProfileID; id != "" && !slices.Contains(profiles, id) {
			profiles = append(profiles, id)
		}
	}
	if len(profiles) > 0 {
		if e.profiles, err = s.cfg.Records.Profiles(ctx, function, profiles...); err != nil {
			return e, err
		}
	}
	warm, err := s.cfg.Records.Invocations(ctx, records.Query{
		Function: function, Kinds: []thaw.StartKind{thaw.StartWarm}, Since: at.Add(-warmBack), Until: at.Add(warmBack), Limit: usualWarm,
	})
	e.warm = anatomy.UsualOf(warm, thaw.StartWarm)
	return e, err
}

// coldKinds are the start kinds of environments that had served nothing.
var coldKinds = []thaw.StartKind{thaw.StartProvisioned, thaw.StartSpare, thaw.StartFork, thaw.StartBoot}

// explain judges one record; attempt counts from 1, 0 is for synchronous ones.
func (e *explainer) explain(i *thaw.Invocation, attempt int) attemptView {
	c := anatomy.Case{
		Invocation: i, Attempt: attempt, Usual: e.usual(i), Warm: e.warm, Profile: e.profile(i),
		Template: e.template(i.Version),
	}
	if !e.server.cfg.MeasuresInit {
		c.NotMeasured = "telemetry.init_profile is off"
	}
	if e.function != nil {
		if e.function.Tags[thaw.TagInitProfile] == "off" {
			c.NotMeasured = "the function has the tag " + thaw.TagInitProfile + "=off"
		}
		if v := e.function.InForce(i.Version); v != nil {
			c.Handler, c.Timeout = v.Handler, v.Timeout
		}
	}
	return attemptView{recordView: viewRecord(i), Verdict: anatomy.Explain(&c), Profile: viewProfile(c.Profile)}
}

// usual is what the other starts of the same kind and version took, or of any version where that has too few.
func (e *explainer) usual(i *thaw.Invocation) anatomy.Usual {
	const few = 3
	others := slices.DeleteFunc(slices.Clone(e.starts), func(o thaw.Invocation) bool {
		return o.Version != i.Version || o.RequestID == i.RequestID
	})
	if u := anatomy.UsualOf(others, i.Kind); u.Count >= few {
		return u
	}
	return anatomy.UsualOf(e.starts, i.Kind)
}

// profile finds the profile of the init that an invocation, or its template, went through.
func (e *explainer) profile(i *thaw.Invocation) *thaw.InitProfile {
	for n := range e.profiles {
		if i.ProfileID != "" && e.profiles[n].ID == i.ProfileID {
			return &e.profiles[n]
		}
	}
	return nil
}

// template is what is known of a version's template now.
func (e *explainer) template(version string) anatomy.Template {
	if e.function == nil || e.server.cfg.Placement == nil {
		return anatomy.Template{}
	}
	running := e.function.InForce(version)
	if running == nil {
		return anatomy.Template{}
	}
	t := e.server.cfg.Placement.Report(running).Template
	return anatomy.Template{State: string(t.State), Reasons: t.Reasons, Init: time.Duration(t.InitMS * float64(time.Millisecond))}
}

// invocationsView lists records, the newest first.
type invocationsView struct {
	Invocations []recordView `json:"invocations"`
	Dropped     uint64       `json:"dropped_records,omitempty"`
}

// serveInvocations lists a function's records: with since from an instant on, with kind those of a start kind (cold: all but
// warm).
func (s *Server) serveInvocations(w http.ResponseWriter, r *http.Request) {
	limit, err := number(r, "limit", recordsDefault, 1, recordsMax)
	since, kinds := time.Time{}, []thaw.StartKind(nil)
	if err == nil {
		since, err = instant(r, "since", lookBack)
	}
	if err == nil {
		kinds, err = startKinds(r.URL.Query().Get("kind"))
	}
	if err == nil {
		_, err = s.known(r.Context(), r.PathValue("name"))
	}
	var list []thaw.Invocation
	if err == nil {
		list, err = s.cfg.Records.Invocations(r.Context(), records.Query{Function: r.PathValue("name"), Kinds: kinds, Since: since, Limit: int(limit)})
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	view := invocationsView{Invocations: make([]recordView, len(list)), Dropped: s.cfg.Records.Dropped()}
	for i := range list {
		view.Invocations[i] = viewRecord(&list[i])
	}
	writeView(w, &view)
}

// instant reads a parameter that is a time, or a length of time back from now.
func instant(r *http.Request, name string, fallback time.Duration) (time.Time, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return time.Now().Add(-fallback), nil
	}
	if back, err := time.ParseDuration(text); err == nil && back > 0 {
		return time.Now().Add(-back), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, thaw.Errorf(thaw.CodeInvalidParameterValue, "%s must be a time such as 2026-01-31T12:00:00Z, or a length of time such as 24h, not %q.", name, text)
	}
	return at, nil
}

// startKinds reads the parameter kind.
func startKinds(text string) ([]thaw.StartKind, error) {
	kind := thaw.StartKind(text)
	switch {
	case text == "":
		return nil, nil
	case text == "cold":
		return coldKinds, nil
	case kind == thaw.StartWarm || slices.Contains(coldKinds, kind):
		return []thaw.StartKind{kind}, nil
	}
	return nil, thaw.Errorf(thaw.CodeInvalidParameterValue, "kind must be warm, provisioned, spare, fork, boot, or cold for all but warm, not %q.", text)
}

// known finds a function that is there, or was and has records.
func (s *Server) known(ctx context.Context, name string) (*thaw.Function, error) {
	if f, ok := s.cfg.Catalog.Function(name); ok {
		return f, nil
	}
	list, err := s.cfg.Records.Invocations(ctx, records.Query{Function: name, Kinds: coldKinds, Limit: 1})
	if err == nil && len(list) == 0 {
		err = thaw.Errorf(thaw.CodeResourceNotFound, "Function not found: %s", s.cfg.Account.FunctionARN(name, ""))
	}
	return nil, err
}

// startsView is how a function started.
type startsView struct {
	Function string `json:"function"`
	// Since is what was asked for, or when the oldest of records.MaxLimit starts began: older ones are not counted.
	Since    time.Time  `json:"since"`
	Kinds    []kindView `json:"kinds"` // the one that cost most first; warm calls are not among them
	Template reportView `json:"template"`
	Invoked  int64      `json:"invocations"` // since the platform started, warm ones included
	Throttle int64      `json:"throttles"`
	// Throttled are the invocations that were refused since Since, the most frequent reason first. They have no records.
	Throttled []throttledView `json:"throttled,omitempty"`
	Typical   *typicality     `json:"typical,omitempty"` // of the kind that cost most; nil: nothing started
	// Slowest are the slowest starts of any kind, the slowest first.
	Slowest []recordView `json:"slowest,omitempty"`
	Dropped uint64       `json:"dropped_records,omitempty"`
}

// throttledView counts what was refused for one reason, AWS's name of the limit.
type throttledView struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
	What   string `json:"what,omitempty"`
	Do     string `json:"do,omitempty"`
}

type reportView struct {
	State   string   `json:"state"`
	Reasons []string `json:"reasons,omitempty"`
	InitMS  float64  `json:"init_ms,omitempty"`
}

// kindView describes the starts of one kind; times are of what comes before the handler.
type kindView struct {
	StartKind thaw.StartKind     `json:"start_kind"`
	Count     int                `json:"count"`
	Failed    int                `json:"failed,omitempty"`
	Causes    map[thaw.Cause]int `json:"causes"`
	Sum       int64              `json:"sum_us"`
	Median    int64              `json:"median_us"`
	Max       int64              `json:"max_us"`
	Phases    map[string]int64   `json:"phases"` // medians
}

// typicality is the start that stands for a kind: the one whose time is the median.
type typicality struct {
	StartKind thaw.StartKind `json:"start_kind"`
	attemptView
}

// serveStarts says how a function starts, which kind of start costs it most, and why a typical one of those takes so long.
func (s *Server) serveStarts(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	since, err := instant(r, "since", startsBack)
	if err == nil {
		_, err = s.known(r.Context(), name)
	}
	var list []thaw.Invocation
	if err == nil {
		list, err = s.cfg.Records.Invocations(r.Context(), records.Query{Function: name, Kinds: coldKinds, Since: since})
	}
	if len(list) == records.MaxLimit {
		since = list[len(list)-1].Start
	}
	kinds := []kindView{}
	for _, kind := range coldKinds {
		if k, ok := describeKind(list, kind); ok {
			kinds = append(kinds, k)
		}
	}
	slices.SortStableFunc(kinds, func(a, b kindView) int { return cmp.Compare(b.Sum, a.Sum) })
	var typical []thaw.Invocation // one or none
	if len(kinds) > 0 {
		typical = append(typical, *anatomy.Typical(list, kinds[0].StartKind))
	}
	var e *explainer
	if err == nil {
		e, err = s.explainer(r.Context(), name, time.Now(), typical)
	}
	var throttled []throttledView
	if err == nil {
		throttled, err = s.throttled(r.Context(), name, since)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	usage := s.cfg.Invoker.Usage(name)
	view := startsView{
		Function: name, Since: since.UTC(), Kinds: kinds, Dropped: s.cfg.Records.Dropped(),
		Invoked: usage.Invocations, Throttle: usage.Throttles, Throttled: throttled,
	}
	t := e.template(thaw.Latest)
	view.Template = reportView{t.State, t.Reasons, float64(t.Init.Microseconds()) / 1000}
	for n := range typical {
		view.Typical = &typicality{typical[n].Kind, e.explain(&typical[n], 0)}
	}
	slices.SortStableFunc(list, func(a, b thaw.Invocation) int { return int(anatomy.StartTime(&b) - anatomy.StartTime(&a)) })
	for i := range list[:min(len(list), slowestShown)] {
		view.Slowest = append(view.Slowest, viewRecord(&list[i]))
	}
	writeView(w, &view)
}

// throttled says how many invocations were refused, and why.
func (s *Server) throttled(ctx context.Context, name string, since time.Time) ([]throttledView, error) {
	if s.cfg.Throttled == nil {
		return nil, nil
	}
	counts, err := s.cfg.Throttled(ctx, name, since)
	var list []throttledView
	for reason, n := range counts {
		what, do := anatomy.Throttled(reason)
		list = append(list, throttledView{reason, n, what, do})
	}
	slices.SortFunc(list, func(a, b throttledView) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return list, err
}

// describeKind describes the starts of one kind; ok is false where there are none.
func describeKind(list []thaw.Invocation, kind thaw.StartKind) (k kindView, ok bool) {
	k = kindView{StartKind: kind, Causes: map[thaw.Cause]int{}, Phases: map[string]int64{}}
	for n := range list {
		i := &list[n]
		if i.Kind != kind {
			continue
		}
		k.Count++
		if i.Failed {
			k.Failed++
		}
		k.Causes[i.Cause]++
		took := anatomy.StartTime(i).Microseconds()
		k.Sum += took
		k.Max = max(k.Max, took)
	}
	u := anatomy.UsualOf(list, kind)
	k.Median = u.Start.Microseconds()
	for phase, length := range u.Phases {
		if length > 0 {
			k.Phases[thaw.Phase(phase).String()] = length.Microseconds()
		}
	}
	return k, k.Count > 0
}
