package placement

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"strings"
	"time"

	"thaw"
	"thaw/warm"
)

// usage is what is remembered of a version's use, by its qualified name: over an update, and over a restart of the platform, which then makes the
// templates and spares first that are likely to be wanted first.
type usage struct {
	Used  time.Time `json:"used"`
	Burst float64   `json:"burst"` // as of Used
}

// recall starts a fleet's history where the function's ended.
func (f *fleet) recall(u usage, modified time.Time) {
	f.bursts = warm.Recall(u.Burst, u.Used)
	f.used.Store(max(u.Used.UnixMicro(), modified.UnixMicro(), 0))
	f.lastStart.Store(time.Now().UnixMicro())
}

func (f *fleet) usage() usage {
	used := time.UnixMicro(f.used.Load())
	f.mu.Lock()
	defer f.mu.Unlock()
	return usage{Used: used, Burst: f.bursts.Size(used)}
}

func (f *fleet) currentEpoch() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

// remember keeps what a fleet knows of its version's use.
func (p *Placer) remember(f *fleet) {
	u := f.usage()
	p.mu.Lock()
	if p.recent[f.key.name()].Used.Before(u.Used) {
		p.recent[f.key.name()] = u
	}
	p.mu.Unlock()
}

// lastUse is when a version was last used, or changed.
func (p *Placer) lastUse(v *thaw.Version) time.Time {
	key := keyOf(v)
	p.mu.RLock()
	fleet, used := p.fleets[key], p.recent[key.name()].Used
	p.mu.RUnlock()
	if fleet != nil {
		used = fleet.lastUse()
	}
	if v.LastModified.After(used) {
		used = v.LastModified
	}
	return used
}

// recollect reads what the last run of the platform has kept. Without it the functions that changed last come first.
func (p *Placer) recollect() {
	if p.cfg.Recent == "" {
		return
	}
	text, err := os.ReadFile(p.cfg.Recent)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var kept map[string]usage
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		p.cfg.Log.Warn("which functions were used last is not known", "error", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(p.recent, kept)
}

// keepRecent writes what a restart wants to know. It is a hint: what a crash loses is not missed.
func (p *Placer) keepRecent() {
	if p.cfg.Recent == "" {
		return
	}
	for _, f := range p.allFleets() {
		p.remember(f)
	}
	p.mu.RLock()
	kept := maps.Clone(p.recent)
	p.mu.RUnlock()
	maps.DeleteFunc(kept, func(name string, _ usage) bool {
		function, version, _ := strings.Cut(name, ":")
		f, ok := p.cfg.Store.Function(function)
		return !ok || f.Version(version) == nil
	})
	text, err := json.Marshal(kept)
	if err == nil {
		err = os.WriteFile(p.cfg.Recent+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(p.cfg.Recent+".new", p.cfg.Recent)
	}
	if err != nil {
		p.cfg.Log.Warn("cannot keep which functions were used last", "error", err)
	}
}
