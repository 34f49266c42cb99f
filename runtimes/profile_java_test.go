package runtimes

import (
	"slices"
	"testing"

	"thaw"
)

// TestJavaProfile has the runtime client of Java tell the packages of the function's classes, also of an init that fails.
func TestJavaProfile(t *testing.T) {
	classes := needClasses(t)
	for _, in := range javaInterpreters(t) {
		for handler, fails := range map[string]bool{"example.Methods::echo": false, "example.Broken$InConstructor": true} {
			t.Run(in.Version+"/"+handler, func(t *testing.T) {
				t.Parallel()
				v := javaVersionOf(handler)
				l := launchJavaFor(t, in, v)
				l.Args = append(slices.Clone(l.Args), l.ProfileArgs...)
				c := startRuntime(t, l, v, javaTask(t, l, classes[0]))
				if err := c.conn.WaitInit(testContext(t)); (err != nil) != fails {
					t.Fatalf("%v: %q", err, c.output.all())
				}
				var p thaw.InitProfile
				if err := ParseProfile(&p, c.conn.(Profiler).TakeProfile()); err != nil {
					t.Fatal(err)
				}
				checkProfile(t, &p)
				i := slices.IndexFunc(p.Modules, func(m thaw.Module) bool { return m.Name == "example" })
				if i < 0 || p.Modules[i].Kind != thaw.ModuleClasses || p.Modules[i].Count < 1 || p.Modules[i].Total <= 0 {
					t.Errorf("%+v", p.Modules)
				}
			})
		}
	}
}
