package sandbox

import (
	"testing"

	"thaw"
	"thaw/runtimes"
)

// talker is a connection to a runtime that tells a profile, asked or not.
type talker struct {
	runtimes.Conn
	profile []byte
}

func (c *talker) TakeProfile() []byte {
	told := c.profile
	c.profile = nil
	return told
}

// A profile that nobody asked for, as any code in an init can send one, is not kept for the environment's life.
func TestUnaskedProfileIsLetGo(t *testing.T) {
	for name, c := range map[string]struct{ asked, forked, heard bool }{
		"asked": {true, false, true}, "not asked": {false, false, false}, "a fork": {false, true, false}, "a fork that is asked": {true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &talker{profile: []byte("{}")}
			heard := false
			plan := &Plan{Launch: &runtimes.Launch{}}
			if c.asked {
				plan.Profiled = func(thaw.InitProfile, []byte) { heard = true }
			}
			e := &Environment{ID: "e", Version: &thaw.Version{}, Forked: c.forked, conn: conn}
			e.tellProfile(plan)
			if conn.profile != nil || heard != c.heard {
				t.Errorf("kept %q, heard %t", conn.profile, heard)
			}
		})
	}
}
