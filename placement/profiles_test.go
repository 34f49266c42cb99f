package placement

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"thaw"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/sandboxtest"
	"thaw/template"
)

// measuringLauncher starts a runtime that measures its init, and can be forked if forks is set.
type measuringLauncher struct{ forks bool }

func (l measuringLauncher) Launch(context.Context, *thaw.Version, string, string) (*runtimes.Launch, error) {
	launch := &runtimes.Launch{Args: []string{"/bin/true"}, ProfileArgs: []string{"--measure"}, Channel: true, Version: "fake:1"}
	if l.forks {
		launch.TemplateArgs = []string{"/bin/true", "--template"}
	}
	return launch, nil
}

// profiles collects what placement hears.
type profiles struct {
	mu  sync.Mutex
	all []thaw.InitProfile
}

func (p *profiles) add(profile *thaw.InitProfile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, *profile)
}

func (p *profiles) of(id string) (found []thaw.InitProfile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, profile := range p.all {
		if profile.ID == id {
			found = append(found, profile)
		}
	}
	return found
}

// tellWhenAsked is a runtime that tells a profile if it is to measure.
func tellWhenAsked(told string) func(spec *sandbox.Spec) []byte {
	return func(spec *sandbox.Spec) []byte {
		if !slices.Contains(spec.Args, "--measure") {
			return nil
		}
		return []byte(told)
	}
}

const toldByFake = `{"kind":"import","names":["main","pandas"],"parents":[-1,0],"files":["",""],"bytes":[1,2],"starts":[0,5],"selves":[5,9],"totals":[14,9]}`

func TestBootIsMeasured(t *testing.T) {
	var heard profiles
	r := newRig(t, sandboxtest.Runtime{Profile: tellWhenAsked(toldByFake)}, func(c *Config) {
		c.Launcher, c.Profiled = measuringLauncher{}, heard.add
	})
	v := r.deploy("f", "a", 7)
	l := r.acquire(t, v, true)
	defer r.Release(l)
	if l.ProfileID != l.ID {
		t.Errorf("the profile of %s is %q", l.ID, l.ProfileID)
	}
	eventually(t, "the profile is heard of", func() bool { return len(heard.of(l.ID)) == 1 })
	p := heard.of(l.ID)[0]
	if p.Function != "f" || p.Version != v.Number || p.Generation != 7 || p.Runtime != "fake:1" ||
		p.Length <= 0 || p.At.Before(l.Timing.Begin) || len(p.Modules) != 2 || p.Modules[1].Name != "pandas" {
		t.Errorf("%+v", p)
	}
}

// TestForksBearTheirTemplatesProfile: all forks name the one init that was measured.
func TestForksBearTheirTemplatesProfile(t *testing.T) {
	var heard profiles
	r := newForkingRig(t, sandboxtest.Runtime{Profile: tellWhenAsked(toldByFake)}, func(c *Config) {
		c.Launcher, c.Profiled, c.Spares = measuringLauncher{forks: true}, heard.add, 0
	})
	v := r.deploy("f", "a", 1)
	r.awaitTemplate(t, v, template.StateReady)
	first, second := r.acquire(t, v, true), r.acquire(t, v, true)
	defer r.Release(first)
	defer r.Release(second)
	if !first.Forked || first.ProfileID == "" || first.ProfileID == first.ID || first.ProfileID != second.ProfileID {
		t.Errorf("profiles %q and %q of %q and %q", first.ProfileID, second.ProfileID, first.ID, second.ID)
	}
	eventually(t, "the profile is heard of", func() bool { return len(heard.of(first.ProfileID)) == 1 })
	heard.mu.Lock()
	defer heard.mu.Unlock()
	if len(heard.all) != 1 {
		t.Errorf("%d profiles", len(heard.all))
	}
}

func TestInitIsNotMeasured(t *testing.T) {
	for name, c := range map[string]struct {
		tags     map[string]string
		profiled func(*thaw.InitProfile)
	}{
		"by tag":     {map[string]string{thaw.TagInitProfile: "off"}, func(*thaw.InitProfile) {}},
		"by setting": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newForkingRig(t, sandboxtest.Runtime{Profile: tellWhenAsked(toldByFake)}, func(cfg *Config) {
				cfg.Launcher, cfg.Profiled, cfg.Spares = measuringLauncher{forks: true}, c.profiled, 0
			})
			v := r.deploy("f", "a", 1)
			r.tag("f", c.tags)
			eventually(t, "a start is not measured", func() bool {
				l := r.acquire(t, v, true)
				defer r.Release(l)
				return l.ProfileID == ""
			})
			r.awaitTemplate(t, v, template.StateReady)
			l := r.acquire(t, v, true)
			defer r.Release(l)
			if !l.Forked || l.ProfileID != "" {
				t.Errorf("forked %v, profile %q", l.Forked, l.ProfileID)
			}
		})
	}
}

// TestFailedInitIsMeasured: the profile says how far it came.
func TestFailedInitIsMeasured(t *testing.T) {
	var heard profiles
	r := newRig(t, sandboxtest.Runtime{
		Profile: tellWhenAsked(toldByFake),
		Failure: "Runtime.ImportModuleError",
	}, func(c *Config) {
		c.Launcher, c.Profiled = measuringLauncher{}, heard.add
	})
	_, err := r.Acquire(t.Context(), r.deploy("f", "a", 1), true)
	failure, ok := errors.AsType[*InitFailure](err)
	if !ok || failure.ProfileID == "" || failure.Type != "Runtime.ImportModuleError" {
		t.Fatalf("%v", err)
	}
	eventually(t, "the profile is heard of", func() bool { return len(heard.of(failure.ProfileID)) == 1 })
}

// TestLyingProfile: what is no profile is counted, and harms nobody.
func TestLyingProfile(t *testing.T) {
	r := newRig(t, sandboxtest.Runtime{Profile: tellWhenAsked(`{"names":7}`)}, func(c *Config) {
		c.Launcher = measuringLauncher{}
		c.Profiled = func(*thaw.InitProfile) { t.Error("a profile was made of it") }
	})
	l := r.acquire(t, r.deploy("f", "a", 1), true)
	defer r.Release(l)
	eventually(t, "it is counted", func() bool { return r.ProfilesLost() > 0 })
}

// TestProfilesDoNotWait: starts go on while nobody reads profiles.
func TestProfilesDoNotWait(t *testing.T) {
	stuck := make(chan struct{})
	r := newRig(t, sandboxtest.Runtime{Profile: tellWhenAsked(toldByFake)}, func(c *Config) {
		c.Launcher = measuringLauncher{}
		c.Profiled = func(*thaw.InitProfile) { <-stuck }
	})
	defer close(stuck)
	v := r.deploy("f", "a", 1)
	for range profilesWaiting + 10 {
		r.Release(r.acquire(t, v, true))
	}
	if r.ProfilesLost() == 0 {
		t.Error("none was left out")
	}
}

// TestProfilesAreBounded: nobody's long profiles take the memory of many, and what was read makes room.
func TestProfilesAreBounded(t *testing.T) {
	heard := make(chan struct{})
	r := newRig(t, sandboxtest.Runtime{}, func(c *Config) { c.Profiled = func(*thaw.InitProfile) { heard <- struct{}{} } })
	long := []byte(`{"kind":"import"` + strings.Repeat(" ", 1<<20-20) + `}`)
	for range profilesWaiting {
		r.profiled(thaw.InitProfile{}, long)
	}
	if lost := r.ProfilesLost(); lost < profilesWaiting-6 || r.profilesHeld.Load() > profileBytes {
		t.Errorf("%d were left out, %d bytes wait", lost, r.profilesHeld.Load())
	}
	for lost := r.ProfilesLost(); lost < profilesWaiting; lost++ {
		<-heard
	}
	eventually(t, "nothing is held", func() bool { return r.profilesHeld.Load() == 0 })
	r.profiled(thaw.InitProfile{}, long)
	<-heard
}
