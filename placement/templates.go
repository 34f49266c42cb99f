package placement

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/telemetry"
	"thaw/template"
)

const (
	// maxForkFailures is how many forks of a template may fail in a row before it is dropped: each costs a request its
	// time, and the boot as well.
	maxForkFailures = 3
	// maxAttempts bounds how often a template is made for a version as long as none comes to be of use.
	maxAttempts = 10
	// maxBackoff bounds the pause between attempts.
	maxBackoff = 2 * time.Minute
)

// held is what is known of a version's template, and the template itself if there is one. All but the atomic fields is
// guarded by the Placer's mu.
//
//	building ──▶ ready ──▶ evicted ──▶ building     when the function starts something, or memory is there again
//	    │          │
//	    │          └──▶ failed ───────▶ building    when its process ended, or its forks fail: after a pause
//	    ├──▶ failed                                 the platform's failure: as above; the function's: for good
//	    └──▶ off · unsupported · unsafe             for good: until code, configuration or tags change
type held struct {
	template *template.Template
	report   template.Report
	release  func() // lets the package go
	used     time.Time
	settings template.Settings
	attempts int       // that have led to nothing of use
	retry    time.Time // when the next one is due; zero: it is not tried again

	failed atomic.Int32 // forks that failed since one went well
	proved atomic.Bool  // a fork went well
}

// backoff is the pause after a number of attempts. The first is repeated at once: most failures are over then.
func backoff(attempts int) time.Duration {
	if attempts <= 1 {
		return 0
	}
	return min(time.Second<<min(attempts-2, 10), maxBackoff)
}

// forkable gives a version's template if it has one that lives. One that has died is made again in the background.
func (p *Placer) forkable(v *thaw.Version) *held {
	key := keyOf(v)
	p.mu.Lock()
	h := p.templates[key]
	if h == nil || h.template == nil {
		p.mu.Unlock()
		return nil
	}
	if h.template.Usable() {
		p.mu.Unlock()
		return h
	}
	p.mu.Unlock()
	p.failTemplate(key, h, "its process has ended")
	return nil
}

// forked takes note of how a fork ended. After some failures in a row the template is of no use.
func (p *Placer) forked(v *thaw.Version, h *held, err error) {
	if err == nil {
		h.failed.Store(0)
		h.proved.Store(true)
		return
	}
	if n := h.failed.Add(1); n >= maxForkFailures {
		p.failTemplate(keyOf(v), h, template.Explain(fmt.Sprintf("%d forks in a row failed, the last one", n), err))
	}
}

// failTemplate drops a template that is of no use and plans when to try again.
func (p *Placer) failTemplate(key fleetKey, h *held, reason string) {
	p.mu.Lock()
	if p.templates[key] != h {
		p.mu.Unlock()
		return
	}
	next := h.without(template.StateFailed, reason)
	if h.proved.Load() {
		next.attempts = 0
	}
	next.postpone(time.Now())
	p.templates[key] = next
	p.mu.Unlock()
	p.cfg.Log.Warn("a template is dropped", "function", key.function, "because", next.report.Reasons)
	p.closeTemplate(key, h.template)
	p.wish(key, h.used)
}

// without is what is known of a version once its template is gone, which the caller closes.
func (h *held) without(state template.State, reason string) *held {
	return &held{
		report:  template.Report{State: state, Reasons: []string{reason}, InitMS: h.report.InitMS},
		release: h.release, used: h.used, settings: h.settings, attempts: h.attempts,
	}
}

// postpone counts an attempt that failed for the platform's reasons, and plans the next.
func (h *held) postpone(now time.Time) {
	if h.attempts++; h.attempts >= maxAttempts {
		h.retry = time.Time{}
		h.tell(fmt.Sprintf("after %d attempts it is not tried again before the function changes or the platform starts", h.attempts))
		return
	}
	h.retry = now.Add(backoff(h.attempts))
	h.tell(fmt.Sprintf("it is tried again, attempt %d of %d", h.attempts+1, maxAttempts))
}

// tell adds to the last reason. Reports that have been given out stay as they are.
func (h *held) tell(more string) {
	reasons := slices.Clone(h.report.Reasons)
	if last := len(reasons) - 1; last >= 0 {
		reasons[last] += "; " + more
	}
	h.report.Reasons = reasons
}

// due reports whether a template is to be made although something is known of it.
func (h *held) due(now time.Time) bool {
	return h.report.State == template.StateEvicted || !h.retry.IsZero() && !now.Before(h.retry)
}

// buildTemplate makes a version's template, unless what it would find is known already. used is when the function was
// last used: the node's templates are those of the functions that were used last.
func (p *Placer) buildTemplate(ctx context.Context, f *thaw.Function, v *thaw.Version, used time.Time) error {
	key := keyOf(v)
	p.mu.Lock()
	h := &held{report: template.Report{State: template.StateBuilding}, used: used, settings: template.SettingsOf(f.Tags)}
	switch known := p.templates[key]; {
	case p.closed || known != nil && !known.due(time.Now()):
		if known != nil && known.used.Before(used) {
			known.used = used
		}
		p.mu.Unlock()
		return nil
	case !p.roomForTemplate(used):
		h.report = template.Report{State: template.StateEvicted, Reasons: []string{p.noRoom()}}
		fallthrough
	default:
		if known != nil {
			h.attempts, h.release = known.attempts, known.release
		} else {
			h.release = p.retain(v)
		}
	}
	p.templates[key] = h
	p.mu.Unlock()
	if h.report.State == template.StateEvicted {
		return nil
	}

	built, report, err := p.makeTemplate(ctx, f, v)
	p.mu.Lock()
	wanted := p.templates[key] == h && !p.closed
	if wanted {
		h.template, h.report = built, report
		if err != nil {
			h.report.State = template.StateFailed
			if len(report.Reasons) == 0 {
				h.report.Reasons = []string{"the platform could not make it; the operator's log says why"}
			}
			h.postpone(time.Now())
		}
	}
	evicted, old := p.surplusTemplate()
	fleet := p.fleets[key]
	p.mu.Unlock()
	if fleet != nil {
		p.refill(fleet) // provisioned environments wait to know what they are made from
	}
	if !wanted { // whoever took it out of the map has let the package go
		p.closeTemplate(key, built)
	}
	p.closeTemplate(evicted, old)
	return err
}

func (p *Placer) makeTemplate(ctx context.Context, f *thaw.Function, v *thaw.Version) (*template.Template, template.Report, error) {
	trees, err := p.fetch(ctx, v)
	if err != nil {
		return nil, template.Report{}, err
	}
	launch, err := p.launch(ctx, v, trees)
	if err != nil {
		return nil, template.Report{Reasons: []string{err.Error()}}, nil
	}
	id := sandbox.NewID()
	stream := p.cfg.Logs.Stream(v.LogGroupName(), streamName(v, id))
	plan := &sandbox.Plan{ID: id, LogStream: stream.Name(), Log: stream, Version: v, Launch: launch, CodeDir: trees.code}
	settings := template.SettingsOf(f.Tags)
	p.measure(plan, settings)
	if launch.TemplateArgs != nil && !settings.Off || template.WantsArchive(plan, settings) { // init runs
		now := time.Now()
		stream.Write(now, "", telemetry.LinesOf(v).InitStart(nil, now, &telemetry.Init{
			Type: runtimes.InitializationType(v, false), Phase: "init", Runtime: launch.Version, RuntimeARN: p.runtimeARN(launch.Version), ID: id,
		}))
	}
	arn := p.cfg.Sandbox.Account.FunctionARN(v.Function, qualifier(v))
	built, report, err := template.Build(ctx, p.cfg.Sandbox, plan, arn, settings)
	if err != nil {
		return built, report, err
	}
	made, why, err := template.Archive(ctx, p.cfg.Sandbox, plan, arn, settings)
	switch last := len(report.Reasons) - 1; {
	case why != "":
		p.cfg.Log.Warn("a version starts without a class-data archive", "function", v.Function, "because", why)
		report.Reasons = append(report.Reasons, why)
	case made != "" && last >= 0:
		report.Reasons[last] += "; " + made
	}
	return built, report, err
}

// templateKnown reports whether it is known what template a version has, if any.
func (p *Placer) templateKnown(key fleetKey) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	h := p.templates[key]
	return h != nil && h.report.State != template.StateBuilding
}

// roomForTemplate reports whether a template of a function that was used at the given time would stay. The caller holds
// p.mu.
func (p *Placer) roomForTemplate(used time.Time) bool {
	n, older := 0, false
	for _, h := range p.templates {
		if h.template != nil || h.report.State == template.StateBuilding {
			n++
			older = older || h.used.Before(used)
		}
	}
	return n < p.cfg.MaxTemplates || older
}

func (p *Placer) noRoom() string {
	return fmt.Sprintf("this node keeps at most %d templates (environments.templates), and other functions were used more recently; it is made when the function starts something", p.cfg.MaxTemplates)
}

// surplusTemplate takes away the template that was used least recently, if there are more than the bound. The caller
// holds p.mu and closes it.
func (p *Placer) surplusTemplate() (fleetKey, *template.Template) {
	n := 0
	for _, h := range p.templates {
		if h.template != nil {
			n++
		}
	}
	if n <= p.cfg.MaxTemplates {
		return fleetKey{}, nil
	}
	return p.evictTemplate(p.noRoom())
}

// evictTemplate takes away the template that was used least recently, nil if there is none. The caller holds p.mu and
// closes it.
func (p *Placer) evictTemplate(reason string) (key fleetKey, gone *template.Template) {
	var oldest *held
	for k, h := range p.templates {
		if h.template != nil && (oldest == nil || h.used.Before(oldest.used)) {
			key, oldest = k, h
		}
	}
	if oldest == nil {
		return fleetKey{}, nil
	}
	p.templates[key] = oldest.without(template.StateEvicted, reason)
	return key, oldest.template
}

// dropTemplates ends the templates, and forgets the reports, of a function's versions that nothing can be started of.
func (p *Placer) dropTemplates(function string, f *thaw.Function) {
	p.dropIf(func(key fleetKey, _ *held) bool {
		return key.function == function && (f == nil || !isCurrent(f, key) && !isPrepared(f, key))
	})
}

// dropUnsettled ends what was made of a function's versions under other tags than it has now: templates and spares. What
// is being prepared is left to whoever does that.
func (p *Placer) dropUnsettled(f *thaw.Function) {
	settings := template.SettingsOf(f.Tags)
	changed := p.dropIf(func(key fleetKey, h *held) bool {
		return key.function == f.Name && h.settings != settings && isCurrent(f, key)
	})
	if len(changed) == 0 {
		return
	}
	for _, fleet := range p.allFleets() {
		if changed[fleet.key] != nil {
			p.buryAll(fleet.renew())
		}
	}
}

// restTemplate ends the template of a version that is not worth one now. It is made again when the version is used.
func (p *Placer) restTemplate(key fleetKey) {
	p.mu.Lock()
	h := p.templates[key]
	if h == nil || h.template == nil {
		p.mu.Unlock()
		return
	}
	p.templates[key] = h.without(template.StateEvicted, atRest)
	p.mu.Unlock()
	p.closeTemplate(key, h.template)
}

const atRest = "the version is not the newest, no alias points at it, and it has not been used for a while; it is made when the version starts something"

// dropIf ends templates and forgets their reports, which it gives.
func (p *Placer) dropIf(unwanted func(fleetKey, *held) bool) map[fleetKey]*held {
	p.mu.Lock()
	gone := map[fleetKey]*held{}
	for key, h := range p.templates {
		if unwanted(key, h) {
			gone[key] = h
			delete(p.templates, key)
		}
	}
	p.mu.Unlock()
	for key, h := range gone {
		p.closeHeld(key, h)
	}
	return gone
}

// renewTemplates finds the templates whose process has died while nobody forked, and those to be tried again.
func (p *Placer) renewTemplates(now time.Time) {
	p.mu.Lock()
	dead := map[fleetKey]*held{}
	for key, h := range p.templates {
		switch {
		case h.template != nil && !h.template.Usable():
			dead[key] = h
		case !h.retry.IsZero() && h.due(now):
			p.wish(key, h.used)
		}
	}
	p.mu.Unlock()
	for key, h := range dead {
		p.failTemplate(key, h, "its process has ended")
	}
}

func (p *Placer) closeHeld(key fleetKey, h *held) {
	p.closeTemplate(key, h.template)
	h.release()
}

func (p *Placer) closeTemplate(key fleetKey, t *template.Template) {
	if t == nil {
		return
	}
	if err := t.Close(); err != nil {
		p.cfg.Log.Error("cannot close a template", "function", key.function, "error", err)
	}
}
