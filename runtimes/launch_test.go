package runtimes

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thaw"
)

func TestLaunchInterpreter(t *testing.T) {
	r := registry()
	for _, in := range r.Interpreters() {
		if in.Unusable != "" || in.Language == "java" {
			continue
		}
		name := map[string]string{"python": "python" + minor(in.Version), "nodejs": "nodejs" + strings.Split(in.Version, ".")[0] + ".x", "ruby": "ruby" + minor(in.Version)}[in.Language]
		if _, known := parseIdentifier(name); !known {
			continue
		}
		l, err := r.Launch(t.Context(), &thaw.Version{Runtime: name, MemorySize: 1000, Handler: "a.b"}, t.TempDir(), "")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !l.Channel || l.RuntimeAPI || !filepath.IsAbs(l.Args[0]) || !strings.HasPrefix(l.Version, in.Language+":"+minor(in.Version)) {
			t.Errorf("%s: %+v", name, l)
		}
		if in.Language == "nodejs" && !slices.Contains(l.Args, "--max-old-space-size=900") {
			t.Errorf("%v", l.Args)
		}
		want := map[string][]string{
			"nodejs": slices.Concat(l.Args[:1], []string{"--single-threaded"}, l.Args[1:], []string{"--template"}),
			"python": append(slices.Clone(l.Args), "--template"), "ruby": l.Args,
		}
		if !slices.Equal(l.TemplateArgs, want[in.Language]) {
			t.Errorf("%s: a template is started by %v", name, l.TemplateArgs)
		}
		for _, file := range append([]string{nativeFile}, bootstrapFiles[in.Language]...) {
			if info, err := os.Stat(filepath.Join(l.Binds[0].Source, file)); err != nil || info.Mode()&0o004 == 0 {
				t.Errorf("%s: %s is not there for everybody: %v", name, file, err)
			}
		}
		program := l.Args[len(l.Args)-1]
		inside, ok := strings.CutPrefix(program, l.Binds[0].Target)
		if info, err := os.Stat(l.Binds[0].Source + inside); !ok || err != nil || info.Mode()&0o004 == 0 {
			t.Errorf("%s: %s is not there for everybody: %v", name, program, err)
		}
		if again, err := r.Launch(t.Context(), &thaw.Version{Runtime: name, MemorySize: 1000}, t.TempDir(), ""); err != nil || again.Binds[0] != l.Binds[0] {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(testDir, ".new-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLaunchBinary(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/bootstrap", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/data", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ runtime, handler, dir, want, failure string }{
		{"provided.al2023", "anything", dir, "/var/task/bootstrap", ""},
		{"provided.al2", "../../x", dir, "/var/task/bootstrap", ""},
		{"go1.x", "bootstrap", dir, "/var/task/bootstrap", ""},
		{"go1.x", "main", dir, "", "fork/exec /var/task/main: no such file or directory"},
		{"go1.x", "data", dir, "", "fork/exec /var/task/data: permission denied"},
		{"go1.x", "../../../bin/sh", dir, "", "not a path within the code"},
		{"provided.al2023", "x", t.TempDir(), "", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"},
	} {
		l, err := new(Registry).Launch(t.Context(), &thaw.Version{Runtime: test.runtime, Handler: test.handler}, test.dir, "")
		if test.failure == "" {
			if err != nil || l.Args[0] != test.want || !l.RuntimeAPI || l.Channel {
				t.Errorf("%+v: %+v, %v", test, l, err)
			}
			continue
		}
		failure, _ := errors.AsType[*thaw.FunctionError](err)
		if failure == nil || failure.Type != thaw.ErrorInvalidEntry || !strings.Contains(string(failure.Payload), test.failure) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

func TestEnviron(t *testing.T) {
	v := &thaw.Version{Function: "fn", Number: "3", Runtime: "python3.11", Handler: "a.b", MemorySize: 512, Environment: map[string]string{
		"MINE": "a=b", "PATH": "/own", "PYTHONPATH": "/mine", "AWS_REGION": "moon-1", "_HANDLER": "evil", "AWS_ACCESS_KEY_ID": "AKIA",
	}}
	environ := func() map[string]string {
		env := map[string]string{}
		for _, pair := range Environ(v, testAccount, "stream", false, "PYTHONPATH=/var/runtime", "EXTRA=1") {
			key, value, _ := strings.Cut(pair, "=")
			if _, twice := env[key]; twice {
				t.Errorf("%s twice", key)
			}
			env[key] = value
		}
		return env
	}
	env := environ()
	for key, want := range map[string]string{
		"MINE": "a=b", "PATH": "/own", "PYTHONPATH": "/mine", "EXTRA": "1", "_HANDLER": "a.b", "TZ": ":UTC", "LANG": "en_US.UTF-8",
		"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
		"AWS_LAMBDA_FUNCTION_NAME": "fn", "AWS_LAMBDA_FUNCTION_VERSION": "3", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn", "AWS_LAMBDA_LOG_STREAM_NAME": "stream", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
		"LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime", "PWD": "/var/task",
	} {
		if env[key] != want {
			t.Errorf("%s=%s, want %s", key, env[key], want)
		}
	}
	other := environ()
	for _, key := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		if env[key] == other[key] || len(env[key]) < 20 {
			t.Errorf("%s: %s, %s", key, env[key], other[key])
		}
	}
	v.SnapStart = thaw.SnapStartPublished
	if got := environ()["AWS_LAMBDA_INITIALIZATION_TYPE"]; got != "snap-start" {
		t.Errorf("with SnapStart the initialization type is %q", got)
	}
	if !strings.HasPrefix(env["AWS_ACCESS_KEY_ID"], "ASIA") || len(env["AWS_ACCESS_KEY_ID"]) != 20 || len(env["AWS_SECRET_ACCESS_KEY"]) != 40 {
		t.Errorf("%s %s", env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
	}
}
