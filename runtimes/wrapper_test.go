package runtimes

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thaw"
)

// A wrapper is given the command line of the runtime, whose program comes last, and what it sets reaches the function.
func TestWrapper(t *testing.T) {
	for _, in := range registry().Interpreters() {
		if in.Language != "python" || in.Unusable != "" && !strings.Contains(in.Unusable, "chmod") {
			continue
		}
		dir := t.TempDir()
		for name, text := range map[string]string{
			"main.py": "import os\ndef handler(event, context):\n    return os.environ['MARK']\n",
			"wrapper": "#!/bin/sh\nfor last in \"$@\"; do :; done\nexport MARK=\"$# ${last##*/}\"\nexec \"$@\"\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Join(dir, "wrapper"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			wrapper string
			steps   [][2]string
		}{
			{dir + "/wrapper", [][2]string{{"event", "{}"}, {"response", `"2 bootstrap.pyc"`}}},
			{"./wrapper", [][2]string{{"event", "{}"}, {"response", `"2 bootstrap.pyc"`}}},
			{dir + "/none", [][2]string{{"exit", "exit status 127"}, {"log", `"` + dir + `/none: does not exist"`}}},
			{dir + "/main.py", [][2]string{{"exit", "exit status 126"}, {"log", `"` + dir + `/main.py: is not an executable"`}}},
		} {
			t.Run(in.Version+"/"+filepath.Base(test.wrapper), func(t *testing.T) {
				v := &thaw.Version{Function: "fn", Number: thaw.Latest, MemorySize: 256, Handler: "main.handler", Environment: map[string]string{wrapperVariable: test.wrapper}}
				l := launchFor(t, in, v)
				wrap(l, v)
				runSteps(testContext(t), t, startRuntime(t, l, v, dir), test.steps)
			})
		}
	}
}

func TestLaunchWrapper(t *testing.T) {
	r := registry()
	environment := map[string]string{wrapperVariable: "/opt/wrapper"}
	for _, name := range []string{"python3.11", "nodejs20.x", "ruby3.3", "java17"} {
		v := &thaw.Version{Runtime: name, MemorySize: 256, Handler: "a.b", Environment: environment}
		if r.Check(name) != nil {
			continue
		}
		l, err := r.Launch(t.Context(), v, t.TempDir(), "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v.Environment = nil
		plain, err := r.Launch(t.Context(), v, t.TempDir(), "")
		if err != nil || !slices.Equal(l.Args, slices.Concat(wrapperShell, []string{"/opt/wrapper"}, plain.Args)) || plain.Wrapper != "" {
			t.Errorf("%s: %v", name, l.Args)
		}
		if l.Wrapper != "/opt/wrapper" || l.TemplateArgs != nil || l.ProfileArgs != nil || l.ArchiveArgs != nil || l.Archive != "" {
			t.Errorf("%s: %+v", name, l)
		}
	}
	// AWS has none for runtimes whose program comes with the code.
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/bootstrap", nil, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := r.Launch(t.Context(), &thaw.Version{Runtime: "provided.al2023", Environment: environment}, dir, "")
	if err != nil || !slices.Equal(l.Args, []string{"/var/task/bootstrap"}) {
		t.Errorf("%+v, %v", l, err)
	}
}
