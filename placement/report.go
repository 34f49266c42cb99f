package placement

import (
	"time"

	"thaw"
	"thaw/template"
)

// Report tells what a version that is in force has on this node.
func (p *Placer) Report(v *thaw.Version) Report {
	key := keyOf(v)
	p.mu.RLock()
	h, fleet := p.templates[key], p.fleets[key]
	p.mu.RUnlock()
	r := Report{Template: template.Report{State: template.StateBuilding}}
	if h != nil {
		p.mu.RLock()
		r.Template = h.report
		p.mu.RUnlock()
	} else if f, ok := p.cfg.Store.Function(v.Function); ok && isCurrent(f, key) && !p.worthTemplate(f, v, p.lastUse(v)) {
		r.Template = template.Report{State: template.StateEvicted, Reasons: []string{atRest}}
	}
	if fleet != nil {
		r.Environments = fleet.counts(time.Now())
		r.Provisioned = fleet.provisionedCounts()
		r.Memory = fleet.memory()
	}
	return r
}

// Report is what a version has on this node.
type Report struct {
	Template     template.Report `json:"template"`
	Environments Counts          `json:"environments"`
	Provisioned  Provisioned     `json:"provisioned"`
	Memory       int64           `json:"memory"` // bytes that its environments may need together
}

// Counts counts a version's environments by what they do.
type Counts struct {
	Busy   int `json:"busy"`
	Idle   int `json:"idle"`   // have served and wait
	Spares int `json:"spares"` // have served nothing yet
	Wanted int `json:"wanted"` // spares that there should be
	Starts int `json:"starts"` // ordered or being made
	Ending int `json:"ending"` // being closed
	// Provisioned are initialised, idle and part of provisioned concurrency; no other number but Busy has them.
	Provisioned int `json:"provisioned"`
}

// Totals is what this node holds.
type Totals struct {
	Environments    int    `json:"environments"` // made, being made or being closed
	MaxEnvironments int    `json:"max_environments"`
	By              Counts `json:"by"`
	Memory          int64  `json:"memory"`     // bytes that they may need together
	MaxMemory       int64  `json:"max_memory"` // 0: not bounded
	Templates       int    `json:"templates"`
	MaxTemplates    int    `json:"max_templates"`
}

// Totals counts what this node holds, what is on its way out included.
func (p *Placer) Totals() Totals {
	now := time.Now()
	t := Totals{MaxEnvironments: p.cfg.MaxEnvironments, Memory: p.memory.Load(), MaxMemory: p.cfg.Memory, MaxTemplates: p.cfg.MaxTemplates}
	for _, f := range p.allFleets() {
		c := f.counts(now)
		t.By.Busy += c.Busy
		t.By.Idle += c.Idle
		t.By.Spares += c.Spares
		t.By.Wanted += c.Wanted
		t.By.Starts += c.Starts
		t.By.Ending += c.Ending
		t.By.Provisioned += c.Provisioned
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	t.Environments = p.count
	for _, h := range p.templates {
		if h.template != nil {
			t.Templates++
		}
	}
	return t
}
