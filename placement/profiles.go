package placement

import (
	"context"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/template"
)

// profilesWaiting and profileBytes bound the profiles that are not yet read. Most have some tens of KiB; a function can make each 1 MiB.
const (
	profilesWaiting = 32
	profileBytes    = 4 << 20
)

// toldProfile is what an init told of itself.
type toldProfile struct {
	profile thaw.InitProfile
	told    []byte
}

// measure has the init of plan's environment measured, if anybody listens and the function's owner does not object.
func (p *Placer) measure(plan *sandbox.Plan, settings template.Settings) {
	if p.cfg.Profiled != nil && !settings.Unmeasured {
		plan.Profiled = p.profiled
	}
}

// settingsOf reads the tags of a version's function as they are now.
func (p *Placer) settingsOf(v *thaw.Version) (settings template.Settings) {
	if f, ok := p.cfg.Store.Function(v.Function); ok {
		settings = template.SettingsOf(f.Tags)
	}
	return settings
}

// profiled queues a profile. In a burst of starts some are left out, which are like the others.
func (p *Placer) profiled(profile thaw.InitProfile, told []byte) {
	if p.profilesHeld.Add(int64(len(told))) <= profileBytes {
		select {
		case p.profiles <- toldProfile{profile, told}:
			return
		default:
		}
	}
	p.profilesHeld.Add(-int64(len(told)))
	p.profilesLost.Add(1)
}

// ProfilesLost is how many profiles of inits were left out, or could not be read, since the platform started.
func (p *Placer) ProfilesLost() uint64 { return p.profilesLost.Load() }

// readProfiles reads what inits told, one at a time, until ctx ends.
func (p *Placer) readProfiles(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-p.profiles:
			err := runtimes.ParseProfile(&t.profile, t.told)
			p.profilesHeld.Add(-int64(len(t.told)))
			if err != nil {
				p.profilesLost.Add(1)
				p.cfg.Log.Debug("an init told something that is no profile", "function", t.profile.Function, "error", err)
				continue
			}
			p.cfg.Profiled(&t.profile)
		}
	}
}
