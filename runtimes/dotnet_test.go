package runtimes

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"thaw"
)

// fakeDotnet builds testdata/fakedotnet into a home folder, with frameworks of these versions beside it.
func fakeDotnet(t *testing.T, home string, versions ...string) (command string) {
	t.Helper()
	dir := filepath.Join(home, ".dotnet")
	command = filepath.Join(dir, "dotnet")
	if out, err := exec.Command("go", "build", "-o", command, "./testdata/fakedotnet").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, version := range versions {
		if err := os.MkdirAll(filepath.Join(dir, dotnetFramework, version), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return command
}

func discoverDotnet(t *testing.T, cacheDir, home string) *Registry {
	t.Helper()
	getenv := func(name string) string { return map[string]string{"HOME": home}[name] }
	r, err := Discover(t.Context(), Config{Dir: cacheDir, Getenv: getenv})
	if err != nil {
		t.Fatal(err)
	}
	// The host may have a real one besides.
	r.interpreters = slices.DeleteFunc(r.interpreters, func(in Interpreter) bool {
		return in.Language != "dotnet" || !strings.HasPrefix(in.Path, home)
	})
	return r
}

// TestDotnet finds a command that behaves like `dotnet`, with its versions as they come and go, and runs an assembly by it.
// No real .NET runs here.
func TestDotnet(t *testing.T) {
	home, cache := t.TempDir(), t.TempDir()
	command := fakeDotnet(t, home, "6.0.36", "5.0.17")
	if got := versionsOf(discoverDotnet(t, cache, home)); !slices.Equal(got, []string{"6.0.36 ", "5.0.17 older than 6"}) {
		t.Fatalf("%q", got)
	}
	fakeDotnet(t, home, "8.0.4")
	r := discoverDotnet(t, cache, home)
	if got := versionsOf(r); !slices.Equal(got, []string{"8.0.4 ", "6.0.36 ", "5.0.17 older than 6"}) {
		t.Fatalf("a version that was installed later: %q", got)
	}
	if got := r.Identifiers(); !slices.Contains(got, "dotnet8") || !slices.Contains(got, "dotnet6") || slices.Contains(got, "dotnet10") {
		t.Errorf("%v", got)
	}
	if err := r.Check("dotnet10"); err == nil || !strings.Contains(err.Error(), "needs dotnet 10 and this host has 8.0.4") {
		t.Errorf("a version that is not there: %v", err)
	}

	code := t.TempDir()
	for _, name := range []string{"Orders.dll", "Orders.runtimeconfig.json", "Half.dll"} {
		if err := os.WriteFile(filepath.Join(code, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v := &thaw.Version{Function: "fn", Number: thaw.Latest, Runtime: "dotnet8", Handler: "Orders", MemorySize: 512}
	l, err := r.Launch(t.Context(), v, code, "")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(command)
	if !slices.Equal(l.Args, []string{command, "/var/task/Orders.dll"}) || !l.RuntimeAPI || l.Channel || l.Version != "dotnet:8.0.4" ||
		!slices.Equal(l.Binds, []Bind{{root, root}}) || l.TemplateArgs != nil {
		t.Errorf("%+v", l)
	}
	if slices.ContainsFunc(l.Env, func(pair string) bool { return strings.HasPrefix(pair, "DOTNET_ROLL_FORWARD") }) {
		t.Errorf("%v", l.Env)
	}
	if got := invokeOnce(t, l, v, code); got != `{"assembly":"Orders.dll","heap":"1ac00000","root":"`+root+`"}` {
		t.Errorf("%s", got)
	}

	r.cfg.Nearest = true
	v.Runtime = "dotnet10"
	if l, err := r.Launch(t.Context(), v, code, ""); err != nil || !slices.Contains(l.Env, "DOTNET_ROLL_FORWARD=Major") {
		t.Errorf("with the nearest version: %+v, %v", l, err)
	}
	for handler, want := range map[string]string{
		"Half": "/var/task/Half.runtimeconfig.json is not in the package", "None": "/var/task/None.dll is not in the package",
		"../Orders": "not the name of an assembly", "--version": "not the name of an assembly",
	} {
		v.Handler = handler
		_, err := r.Launch(t.Context(), v, code, "")
		failure, _ := errors.AsType[*thaw.FunctionError](err)
		if failure == nil || failure.Type != thaw.ErrorInvalidEntry || !strings.Contains(string(failure.Payload), want) {
			t.Errorf("%s: %v", handler, err)
		}
	}
	v.Handler = "Orders::Orders.Function::Handle"
	if _, err := r.Launch(t.Context(), v, code, ""); !errors.Is(err, &thaw.Error{Code: thaw.CodeInvalidParameterValue}) || !strings.Contains(err.Error(), "Publish the function as an executable assembly") {
		t.Errorf("a class library: %v", err)
	}
}

// TestDotnetWithoutFramework leaves out a command that lists no framework: it is the host alone, and runs nothing.
func TestDotnetWithoutFramework(t *testing.T) {
	home := t.TempDir()
	fakeDotnet(t, home)
	if got := versionsOf(discoverDotnet(t, t.TempDir(), home)); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

func versionsOf(r *Registry) (told []string) {
	for _, in := range r.Interpreters() {
		told = append(told, in.Version+" "+in.Unusable)
	}
	return told
}

// invokeOnce runs a Launch that speaks the Runtime API outside any sandbox, and passes it one event.
func invokeOnce(t *testing.T, l *Launch, v *thaw.Version, code string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn := ServeAPI(listener, nil, nil)
	defer conn.Close()
	args := slices.Clone(l.Args)
	for i := range args {
		args[i] = strings.Replace(args[i], TaskRoot, code, 1)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = Environ(v, testAccount, "stream", false, append(l.Env, "AWS_LAMBDA_RUNTIME_API="+listener.Addr().String())...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	ctx := testContext(t)
	if err := conn.WaitInit(ctx); err != nil {
		t.Fatal(err)
	}
	response, err := conn.Invoke(ctx, &Event{RequestID: "id", Payload: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	return string(response)
}
