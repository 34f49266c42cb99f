package runtimes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
)

// TestIdentifiersAreAWSs fails when the SDK knows a runtime that this package does not.
func TestIdentifiersAreAWSs(t *testing.T) {
	var want []string
	for _, runtime := range types.Runtime("").Values() {
		want = append(want, string(runtime))
	}
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(identifiers)); !slices.Equal(got, want) {
		t.Errorf("have %v\nAWS  %v", got, want)
	}
	for _, name := range identifiers {
		if id, ok := parseIdentifier(name); !ok || id.language == "" {
			t.Errorf("%s: %+v", name, id)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		identifier, version string
		want                bool
	}{
		{"python3.11", "3.11.2", true}, {"python3.11", "3.1.1", false}, {"python3.9", "3.10.1", false},
		{"nodejs20.x", "20.20.2", true}, {"nodejs20.x", "2.0.1", false}, {"nodejs22.x", "20.20.2", false},
		{"ruby3.2", "3.2.5", true}, {"ruby3.2", "3.20.1", false},
		{"java17", "17.0.15", true}, {"java8.al2", "8.0.412", true}, {"java11.al2023", "11.0.2", true}, {"java21", "17.0.15", false},
	} {
		id, _ := parseIdentifier(test.identifier)
		if got := id.matches(test.version); got != test.want {
			t.Errorf("%s, %s: %v", test.identifier, test.version, got)
		}
	}
}

// fakeELF writes an executable that is found as an interpreter but cannot run.
func fakeELF(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	r := &Registry{interpreters: []Interpreter{
		{Language: "nodejs", Version: "20.20.2", Path: "/usr/bin/node"},
		{Language: "python", Version: "3.13.0", Path: "/root/x/bin/python3.13", Unusable: "closed"},
		{Language: "python", Version: "3.12.1", Path: "/usr/bin/python3.12"},
		{Language: "python", Version: "3.9.18", Path: "/usr/bin/python3.9"},
	}}
	for runtime, want := range map[string]string{
		"python3.12":      "",
		"nodejs20.x":      "",
		"provided.al2023": "",
		"provided.al2":    "",
		"go1.x":           "",
		"python3.13":      "The runtime python3.13 needs python 3.13 and this host has 3.12.1 (/usr/bin/python3.12), 3.9.18 (/usr/bin/python3.9). Install it, or set runtimes.nearest: true in the configuration to run it with python 3.12.1.",
		"python3.10":      "to run it with python 3.9.18.",
		"ruby3.3":         "no usable ruby interpreter",
		"java21":          "no usable java interpreter",
		"dotnet8":         "no usable dotnet interpreter",
		"cobol85":         "Value cobol85 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [",
	} {
		err := r.Check(runtime)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", runtime, err)
		case want != "" && (!errors.Is(err, &thaw.Error{Code: thaw.CodeInvalidParameterValue}) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v", runtime, err)
		}
	}
	r.cfg.Nearest = true
	for runtime, want := range map[string]string{"python3.13": "3.12.1", "python3.10": "3.9.18", "python3.8": "3.9.18", "nodejs24.x": "20.20.2"} {
		id, _ := parseIdentifier(runtime)
		if in, err := r.choose(id); err != nil || in.Version != want {
			t.Errorf("%s: %v, %v", runtime, in, err)
		}
	}
	if err := r.Check("ruby3.3"); err == nil {
		t.Error("a language that is absent has a nearest version")
	}
}

func TestIdentifiersOfAHost(t *testing.T) {
	interpreters := []Interpreter{
		{Language: "nodejs", Version: "20.20.2"}, {Language: "python", Version: "3.11.2"},
		{Language: "python", Version: "3.9.1", Unusable: "closed"},
	}
	want := []string{"nodejs20.x", "python3.11", "go1.x", "provided", "provided.al2", "provided.al2023"}
	for _, nearest := range []bool{false, true} {
		r := &Registry{cfg: Config{Nearest: nearest}, interpreters: interpreters}
		if got := r.Identifiers(); !slices.Equal(got, want) {
			t.Errorf("nearest %v:\ngot  %v\nwant %v", nearest, got, want)
		}
	}
}

func TestDiscover(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	getenv := func(name string) string { return map[string]string{"HOME": home, "PATH": "/usr/bin"}[name] }
	fakeELF(t, home+"/.pyenv/versions/3.99.1/bin/python3.99")
	if err := os.WriteFile(home+"/node", []byte("#!/bin/sh\nexec node\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := Discover(t.Context(), Config{Dir: dir, Extra: []string{home}, Getenv: getenv})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Interpreters()) == 0 {
		t.Skip("this host has no interpreter in /usr/bin")
	}
	for i, in := range r.Interpreters() {
		if strings.HasPrefix(in.Path, home) {
			t.Errorf("%+v: does not tell its version", in)
		}
		if target, err := filepath.EvalSymlinks(in.Path); err != nil || target != in.Path || strings.Count(in.Version, ".") != 2 {
			t.Errorf("%+v", in)
		}
		if i > 0 && in.Language == r.Interpreters()[i-1].Language && compareVersions(minor(in.Version), minor(r.Interpreters()[i-1].Version)) > 0 {
			t.Errorf("%+v comes after an older one", in)
		}
	}

	// What is known is not asked again, and a damaged cache is no failure.
	cache := filepath.Join(dir, "interpreters.json")
	data, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	told := r.Interpreters()[0].Version
	if err := os.WriteFile(cache, []byte(strings.ReplaceAll(string(data), `"`+told+`"`, `"77.0.0"`)), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Discover(t.Context(), Config{Dir: dir, Getenv: getenv})
	if err != nil || !slices.ContainsFunc(again.Interpreters(), func(in Interpreter) bool { return in.Version == "77.0.0" }) {
		t.Errorf("the cache was not used: %+v, %v", again, err)
	}
	if err := os.WriteFile(cache, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err = Discover(t.Context(), Config{Dir: dir, Getenv: getenv})
	if err != nil || !slices.Equal(again.Interpreters(), r.Interpreters()) {
		t.Errorf("%+v, %v", again, err)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Discover(ended, Config{Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := Discover(t.Context(), Config{Dir: cache}); err == nil {
		t.Error("a folder that cannot be made is no error")
	}
}

// TestJudge is about what may be shown to functions of an installation outside /usr.
func TestJudge(t *testing.T) {
	root := t.TempDir()
	os.Chmod(root, 0o755)
	make := func(path string) string {
		fakeELF(t, filepath.Join(root, path))
		return filepath.Join(root, path)
	}
	make("py/lib/python3.11/os.py")
	make("node/include/node/node.h")
	for _, test := range []struct {
		in       Interpreter
		prefix   string
		unusable string
	}{
		{Interpreter{Language: "python", Version: "3.11.4", Path: make("py/bin/python3.11")}, root + "/py", ""},
		{Interpreter{Language: "python", Version: "3.11.4", Path: make("home/bin/python3.11")}, "", "standard library"},
		{Interpreter{Language: "nodejs", Version: "20.1.0", Path: make("node/bin/node")}, root + "/node", ""},
		{Interpreter{Language: "nodejs", Version: "20.1.0", Path: make("home/bin/node")}, root + "/home/bin/node", ""},
		{Interpreter{Language: "ruby", Version: "3.2.1", Path: make("home/bin/ruby")}, "", "standard library"},
		{Interpreter{Language: "python", Version: "3.6.1", Path: "/usr/bin/env"}, "", "older than 3.8"},
		{Interpreter{Language: "python", Version: "3.11.4", Path: "/usr/bin/env"}, "", ""},
	} {
		judge(&test.in)
		if test.in.Prefix != test.prefix || (test.in.Unusable == "") != (test.unusable == "") || !strings.Contains(test.in.Unusable, test.unusable) {
			t.Errorf("%+v", test.in)
		}
	}
	closed := Interpreter{Language: "nodejs", Version: "20.1.0", Path: make("node/bin/node")}
	os.Chmod(closed.Path, 0o700)
	if judge(&closed); !strings.Contains(closed.Unusable, "chmod o+rX") {
		t.Errorf("%+v", closed)
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"2.7", "3", "3.0.1", "3.9.18", "3.10", "3.10.1", "20"}
	for i := range sorted {
		for j := range sorted {
			if got := compareVersions(sorted[i], sorted[j]); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s, %s: %d", sorted[i], sorted[j], got)
			}
		}
	}
}

func BenchmarkDiscover(b *testing.B) {
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if _, err := Discover(b.Context(), Config{Dir: b.TempDir(), Getenv: os.Getenv}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		dir := b.TempDir()
		for b.Loop() {
			if _, err := Discover(b.Context(), Config{Dir: dir, Getenv: os.Getenv}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
