package placement

import (
	"context"
	"time"

	"thaw"
	"thaw/sandbox"
	"thaw/telemetry"
	"thaw/template"
)

// builders bounds how many templates and spares are made at the same time in the background.
const builders = 2

// held is what is known of a version's template, and the template itself if there is one.
type held struct {
	template *template.Template
	report   template.Report
	release  func() // lets the package go
	used     time.Time
}

// forkable gives a version's template if it has one that lives. One that has died is dropped and made again in the
// background.
func (p *Placer) forkable(v *thaw.Version) *template.Template {
	key := keyOf(v)
	p.mu.Lock()
	h := p.templates[key]
	if h == nil || h.template == nil {
		p.mu.Unlock()
		return nil
	}
	if h.template.Usable() {
		h.used = time.Now()
		p.mu.Unlock()
		return h.template
	}
	delete(p.templates, key)
	p.mu.Unlock()
	p.closeHeld(key, h)
	p.wish(v.Function)
	return nil
}

// buildTemplate makes a version's template, unless what it would find is known already.
func (p *Placer) buildTemplate(ctx context.Context, f *thaw.Function, v *thaw.Version) error {
	key := keyOf(v)
	p.mu.Lock()
	if p.templates[key] != nil || p.closed {
		p.mu.Unlock()
		return nil
	}
	h := &held{report: template.Report{State: template.StateBuilding}, release: p.cfg.Packages.Retain(v.Code.SHA256), used: time.Now()}
	p.templates[key] = h
	p.mu.Unlock()

	built, report, err := p.makeTemplate(ctx, f, v)
	if err != nil {
		report.State = template.StateFailed
		if len(report.Reasons) == 0 {
			report.Reasons = []string{"the platform could not make it; the operator's log says why"}
		}
	}
	p.mu.Lock()
	wanted := p.templates[key] == h && !p.closed
	if wanted {
		h.template, h.report = built, report
	}
	evicted, old := p.surplusTemplate()
	p.mu.Unlock()
	if !wanted { // whoever took it out of the map has let the package go
		p.closeHeld(key, &held{template: built, release: func() {}})
	}
	if old != nil {
		p.closeHeld(evicted, old)
	}
	return err
}

func (p *Placer) makeTemplate(ctx context.Context, f *thaw.Function, v *thaw.Version) (*template.Template, template.Report, error) {
	dir, err := p.cfg.Packages.Dir(ctx, v.Code.SHA256)
	if err != nil {
		return nil, template.Report{}, err
	}
	launch, err := p.cfg.Launcher.Launch(ctx, v, dir)
	if err != nil {
		return nil, template.Report{Reasons: []string{err.Error()}}, nil
	}
	id := sandbox.NewID()
	stream := p.cfg.Logs.Stream(v.LogGroupName(), streamName(v, id))
	plan := &sandbox.Plan{ID: id, LogStream: stream.Name(), Log: stream, Version: v, Launch: launch, CodeDir: dir}
	if launch.TemplateArgs != nil && f.Tags[template.TagSnapshot] != "off" || template.WantsArchive(plan, f.Tags) { // init runs
		stream.Write(time.Now(), "", telemetry.AppendInitStart(nil, launch.Version, p.runtimeARN(launch.Version)))
	}
	arn := p.cfg.Sandbox.Account.FunctionARN(v.Function, "")
	built, report, err := template.Build(ctx, p.cfg.Sandbox, plan, arn, f.Tags)
	if err != nil {
		return built, report, err
	}
	made, why, err := template.Archive(ctx, p.cfg.Sandbox, plan, arn, f.Tags)
	if why != "" {
		p.cfg.Log.Warn("a version starts without a class-data archive", "function", v.Function, "because", why)
	}
	if told := made + why; told != "" {
		report.Reasons = append(report.Reasons, told)
	}
	return built, report, err
}

// surplusTemplate takes out the template that was used least recently, if there are more than the bound. The caller
// holds p.mu.
func (p *Placer) surplusTemplate() (fleetKey, *held) {
	n := 0
	for _, h := range p.templates {
		if h.template != nil {
			n++
		}
	}
	if n <= p.cfg.MaxTemplates {
		return fleetKey{}, nil
	}
	key, oldest := p.leastUsedTemplate()
	delete(p.templates, key)
	return key, oldest
}

// leastUsedTemplate finds the template that was used least recently, nil if there is none. The caller holds p.mu.
func (p *Placer) leastUsedTemplate() (key fleetKey, oldest *held) {
	for k, h := range p.templates {
		if h.template != nil && (oldest == nil || h.used.Before(oldest.used)) {
			key, oldest = k, h
		}
	}
	return key, oldest
}

// dropTemplates ends the templates, and forgets the reports, of a function's generations other than one.
func (p *Placer) dropTemplates(function string, except uint64) {
	p.mu.Lock()
	gone := map[fleetKey]*held{}
	for key, h := range p.templates {
		if key.function == function && key.generation != except {
			gone[key] = h
			delete(p.templates, key)
		}
	}
	p.mu.Unlock()
	for key, h := range gone {
		p.closeHeld(key, h)
	}
}

// renewTemplates drops the templates whose process has died while nobody forked, and has them made again.
func (p *Placer) renewTemplates() {
	p.mu.Lock()
	dead := map[fleetKey]*held{}
	for key, h := range p.templates {
		if h.template != nil && !h.template.Usable() {
			dead[key] = h
			delete(p.templates, key)
		}
	}
	p.mu.Unlock()
	for key, h := range dead {
		p.closeHeld(key, h)
		p.wish(key.function)
	}
}

func (p *Placer) closeHeld(key fleetKey, h *held) {
	if h.template != nil {
		if err := h.template.Close(); err != nil {
			p.cfg.Log.Error("cannot close a template", "function", key.function, "error", err)
		}
	}
	h.release()
}

// wish asks for a function's template and spares to be made in the background.
func (p *Placer) wish(function string) {
	p.wishMu.Lock()
	p.wishes[function] = struct{}{}
	p.wishMu.Unlock()
	select {
	case p.wished <- struct{}{}:
	default:
	}
}

func (p *Placer) nextWish() (function string, ok bool) {
	p.wishMu.Lock()
	defer p.wishMu.Unlock()
	for function = range p.wishes {
		delete(p.wishes, function)
		return function, true
	}
	return "", false
}

// grant makes what was wished for, until ctx ends.
func (p *Placer) grant(ctx context.Context) {
	for {
		function, ok := p.nextWish()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-p.wished:
				// One token may stand for several wishes: pass it on.
				select {
				case p.wished <- struct{}{}:
				default:
				}
				if function, ok = p.nextWish(); !ok {
					select {
					case <-p.wished:
					default:
					}
					continue
				}
			}
		}
		if ctx.Err() != nil {
			return
		}
		p.warmUp(ctx, function)
	}
}

// warmUp makes a function's template and fills up its spares.
func (p *Placer) warmUp(ctx context.Context, function string) {
	f, ok := p.cfg.Store.Function(function)
	if !ok || f.Running == nil {
		return
	}
	if err := p.buildTemplate(ctx, f, f.Running); err != nil && ctx.Err() == nil {
		p.cfg.Log.Error("cannot make a template", "function", function, "error", err)
	}
	fleet := p.fleetOf(f.Running)
	for ctx.Err() == nil && !p.shortOfMemory() && fleet.wantsSpare(p.cfg.Spares) {
		if !p.reserveSpare(fleet) {
			fleet.spareFailed(false)
			return
		}
		instance, err := p.start(ctx, f.Running)
		if err != nil {
			p.unreserve()
			fleet.spareFailed(true)
			return
		}
		if !fleet.addSpare(instance) {
			p.end(fleet, instance, "")
			continue
		}
		p.noteUnfrozen(fleet)
	}
}

// reserveSpare takes a place for a spare of f. The node's spares are bounded, and the last quarter of its places is kept
// for requests; over the bound, a function that has not started anything for longer gives one of its spares up.
func (p *Placer) reserveSpare(f *fleet) bool {
	p.mu.Lock()
	if p.closed || p.count >= p.cfg.MaxEnvironments*3/4 {
		p.mu.Unlock()
		return false
	}
	total := 0
	var idlest *fleet
	for _, other := range p.fleets {
		ready, making := other.spareCounts()
		total += ready + making // this one's is among those being made
		if ready > 0 && (idlest == nil || other.lastStart.Load() < idlest.lastStart.Load()) {
			idlest = other
		}
	}
	var gone *Instance
	if total > p.cfg.MaxSpares {
		if idlest == nil || idlest.lastStart.Load() >= f.lastStart.Load() {
			p.mu.Unlock()
			return false
		}
		gone = idlest.takeSpare()
	}
	p.count++
	p.mu.Unlock()
	if gone != nil {
		p.bury(ending{instance: gone})
	}
	return true
}

// Report tells what a function's current version has on this node.
func (p *Placer) Report(v *thaw.Version) Report {
	key := keyOf(v)
	p.mu.RLock()
	defer p.mu.RUnlock()
	r := Report{Template: template.Report{State: template.StateBuilding}}
	if h := p.templates[key]; h != nil {
		r.Template = h.report
	}
	if f := p.fleets[key]; f != nil {
		r.Environments = f.counts()
	}
	return r
}

// Report is what a version has on this node.
type Report struct {
	Template     template.Report `json:"template"`
	Environments Counts          `json:"environments"`
}

// Counts counts a version's environments by what they do.
type Counts struct {
	Busy   int `json:"busy"`
	Idle   int `json:"idle"`   // have served and wait
	Spares int `json:"spares"` // have served nothing yet
	Starts int `json:"starts"` // being made
}
