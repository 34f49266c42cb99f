package runtimes

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"thaw"
)

// javaInterpreters are the host's usable Javas; without any the test is skipped.
func javaInterpreters(t testing.TB) (found []Interpreter) {
	t.Helper()
	for _, in := range registry().Interpreters() {
		if in.Language == "java" && (in.Unusable == "" || strings.Contains(in.Unusable, "chmod")) {
			found = append(found, in)
		}
	}
	if len(found) == 0 {
		t.Skip("this host has no Java: its runtime client was not tested")
	}
	return found
}

// javaClasses compiles testdata/java once and gives the folders: of the classes for every Java, and of those for Java 17.
var javaClasses = sync.OnceValues(func() ([2]string, error) {
	var dirs [2]string
	compiler, err := exec.LookPath("javac")
	if err != nil {
		return dirs, err
	}
	for i, source := range []string{"src", "src17"} {
		dirs[i] = filepath.Join(testDir, "classes-"+source)
		args := []string{"--release", []string{"8", "17"}[i], "-Xlint:-options", "-g", "-d", dirs[i], "-cp", "bootstrap/" + javaJar}
		err := filepath.WalkDir("testdata/java/"+source, func(path string, entry os.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".java" {
				args = append(args, path)
			}
			return err
		})
		if err != nil {
			return dirs, err
		}
		if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
			return dirs, errors.New(string(out))
		}
	}
	return dirs, nil
})

func needClasses(t testing.TB) [2]string {
	t.Helper()
	dirs, err := javaClasses()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("this host has no javac: the runtime client of Java was not tested")
	}
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func javaVersionOf(handler string) *thaw.Version {
	return &thaw.Version{Function: "fn", Number: thaw.Latest, Runtime: "test", MemorySize: 256, Handler: handler, Environment: map[string]string{}}
}

// javaTask is a folder of code with copies of the folders, beside which the runtime client is found as in an environment.
func javaTask(t testing.TB, l *Launch, folders ...string) string {
	t.Helper()
	root := t.TempDir()
	task := filepath.Join(root, filepath.Base(TaskRoot))
	if err := os.Symlink(l.Binds[0].Source, filepath.Join(root, filepath.Base(RuntimeDir))); err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if err := os.CopyFS(task, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
	}
	return task
}

func launchJavaFor(t testing.TB, in Interpreter, v *thaw.Version) *Launch {
	t.Helper()
	l, err := registry().launchJava(context.Background(), v, &in)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestJava runs the cases of testdata/java, whose steps are those of TestBootstraps, with every Java that this host has.
// They share the classes of src and src17; a case's own files come on top.
func TestJava(t *testing.T) {
	classes := needClasses(t)
	files, err := filepath.Glob("testdata/java/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, in := range javaInterpreters(t) {
		for _, file := range files {
			t.Run(in.Version+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Parallel()
				archive, err := txtar.ParseFile(file)
				if err != nil {
					t.Fatal(err)
				}
				v := javaVersionOf("")
				var steps [][2]string
				dir := classes[0]
				for line := range strings.Lines(string(archive.Comment)) {
					key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
					switch {
					case key == "handler":
						v.Handler = value
					case key == "env":
						name, text, _ := strings.Cut(value, "=")
						v.Environment[name] = text
					case key == "min" && compareVersions(in.Version, value) < 0:
						t.Skipf("%s is for Java %s", in.Version, value)
					case key == "min":
						dir = classes[1]
					default:
						steps = append(steps, [2]string{key, value})
					}
				}
				l := launchJavaFor(t, in, v)
				dir = javaTask(t, l, dir)
				if err := txtar.Write(archive, dir); err != nil {
					t.Fatal(err)
				}
				c := startRuntime(t, l, v, dir)
				defer func() {
					if t.Failed() {
						t.Logf("output: %q", c.output.all())
					}
				}()
				runSteps(testContext(t), t, c, steps)
			})
		}
	}
}

// TestJavaLib finds a handler in a jar below lib, where the folder of the code has none, and a resource in the folder.
func TestJavaLib(t *testing.T) {
	classes := needClasses(t)
	jar, err := exec.LookPath("jar")
	if err != nil {
		t.Skip("this host has no jar tool")
	}
	for _, in := range javaInterpreters(t) {
		v := javaVersionOf("example.Methods::resource")
		l := launchJavaFor(t, in, v)
		dir := javaTask(t, l)
		if err := errors.Join(os.MkdirAll(dir+"/lib", 0o755), os.WriteFile(dir+"/greeting.txt", []byte("hi"), 0o644)); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(jar, "cf", dir+"/lib/function.jar", "-C", classes[0], ".").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c := startRuntime(t, l, v, dir)
		runSteps(testContext(t), t, c, [][2]string{{"event", "{}"}, {"response", `"hi"`}})
	}
}

// TestJavaEventSizes sends events and gets responses whose frames end at, before and after the bounds of the buffer.
func TestJavaEventSizes(t *testing.T) {
	classes := needClasses(t)
	for _, in := range javaInterpreters(t) {
		v := javaVersionOf("example.Methods::copy")
		l := launchJavaFor(t, in, v)
		c := startRuntime(t, l, v, javaTask(t, l, classes[0]))
		ctx := testContext(t)
		if err := c.conn.WaitInit(ctx); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 65536 - 40, 65535, 65536, 65537, 131072, 300_000, thaw.MaxPayload, 10} {
			for around := -12; around <= 0; around++ {
				text := strings.Repeat("x", max(0, size+around))
				response, err := c.conn.Invoke(ctx, &Event{RequestID: "id", Payload: []byte(text)})
				if err != nil || string(response) != text {
					t.Fatalf("%d bytes: %d bytes, %v", len(text), len(response), err)
				}
				if size > 300_000 {
					break
				}
			}
		}
	}
}

// TestJavaOwnOptions checks that the JVM starts with what functions set in JAVA_TOOL_OPTIONS, and takes it.
func TestJavaOwnOptions(t *testing.T) {
	classes := needClasses(t)
	for _, in := range javaInterpreters(t) {
		v := javaVersionOf("example.Methods::echo")
		v.Environment["JAVA_TOOL_OPTIONS"] = "-XX:+UseParallelGC -Xmx64m -Dfile.encoding=ISO-8859-1"
		l := launchJavaFor(t, in, v)
		c := startRuntime(t, l, v, javaTask(t, l, classes[0]))
		runSteps(testContext(t), t, c, [][2]string{
			{"event", `{"a":1}`}, {"response", `{"a":1}`}, {"log~", "^Picked up JAVA_TOOL_OPTIONS: -XX:\\+UseParallelGC"},
		})
	}
}

func TestJavaOptions(t *testing.T) {
	for _, test := range []struct {
		version  string
		memoryMB int
		own      string
		with     []string
		without  []string
	}{
		{"25.0.3", 128, "", []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx83m", "-Xlog:cds=off"}, nil},
		{"17.0.1", 512, "", []string{"-XX:+UseG1GC", "-XX:TieredStopAtLevel=1", "-Xmx428m"}, []string{"useNativeAccessor"}},
		{"8.0.412", 512, "", []string{"-XX:+UseSerialGC"}, []string{"-Xlog", "useNativeAccessor"}},
		{"21.0.1", 1769, "", []string{"-Xmx1560m"}, []string{"Tiered"}},
		{"21.0.1", 10240, "-Xmx1g", []string{"-XX:+UseSerialGC"}, []string{"-Xmx"}},
		{"21.0.1", 512, "-XX:+UseZGC -XX:MaxRAMPercentage=50", nil, []string{"UseSerialGC", "-Xmx"}},
		{"21.0.1", 512, "-XX:+TieredCompilation", nil, []string{"TieredStopAtLevel"}},
		{"21.0.1", 512, "-Dx=-Xmx", []string{"-Xmx428m"}, nil},
	} {
		options := javaOptions(test.version, test.memoryMB, test.own)
		for _, option := range test.with {
			if !slices.Contains(options, option) {
				t.Errorf("%+v: no %s in %v", test, option, options)
			}
		}
		for _, part := range test.without {
			if slices.ContainsFunc(options, func(option string) bool { return strings.Contains(option, part) }) {
				t.Errorf("%+v: %s in %v", test, part, options)
			}
		}
	}
}

// TestJavaArchive makes a class-data archive of a function and checks that the JVM takes the function's class from it, and
// that it starts with an archive that does not fit, without a word.
func TestJavaArchive(t *testing.T) {
	classes := needClasses(t)
	for _, in := range javaInterpreters(t) {
		if !canArchive(in.Version) {
			continue
		}
		t.Run(in.Version, func(t *testing.T) {
			r := &Registry{cfg: Config{Dir: t.TempDir()}, interpreters: []Interpreter{in}, prepared: map[string]string{}}
			v := javaVersionOf("example.Methods::echo")
			launch := func() *Launch {
				l, err := r.launchJava(t.Context(), v, &in)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			plain := launch()
			code := javaTask(t, plain, classes[0])
			file := filepath.Join(t.TempDir(), "function.jsa")
			dry := *plain
			// Outside a sandbox, the file has another place and nobody passes it on.
			dry.Args = slices.Clone(plain.ArchiveArgs[len(archiveShell):])
			for i, arg := range dry.Args {
				dry.Args[i] = strings.Replace(arg, newArchive, file, 1)
			}
			c := startRuntime(t, &dry, v, code)
			runSteps(testContext(t), t, c, [][2]string{{"event", "{}"}, {"response", "{}"}})
			c.conn.Close()
			if status := c.wait(t); status != "exit status 0" {
				t.Fatalf("%s: %q", status, c.output.all())
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(plain.Archive), 0o755), os.Rename(file, plain.Archive)); err != nil {
				t.Fatal(err)
			}
			loads := func(with *Launch) (string, []string) {
				trace := filepath.Join(t.TempDir(), "loads")
				with.Args = slices.Insert(slices.Clone(with.Args), 1, "-Xlog:class+load:file="+trace)
				for i, arg := range with.Args {
					with.Args[i] = strings.Replace(arg, archiveTarget, plain.Archive, 1)
				}
				c := startRuntime(t, with, v, code)
				runSteps(testContext(t), t, c, [][2]string{{"event", "{}"}, {"response", "{}"}})
				c.conn.Close()
				c.wait(t)
				text, err := os.ReadFile(trace)
				if err != nil {
					t.Fatal(err)
				}
				return string(text), c.output.all()
			}
			with := launch()
			if bind := with.Binds[len(with.Binds)-1]; bind != (Bind{plain.Archive, archiveTarget}) || len(with.Binds) != len(plain.Binds)+1 {
				t.Fatalf("%+v", with.Binds)
			}
			text, _ := loads(with)
			for _, class := range []string{"example.Methods", javaMain} {
				if !strings.Contains(text, class+" source: shared objects file (top)") {
					t.Errorf("%s was not taken from the archive", class)
				}
			}
			if err := os.WriteFile(plain.Archive, []byte("not an archive"), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, output := loads(launch()); len(output) > 0 {
				t.Errorf("with a bad archive: %q", output)
			}
			if text, _ := loads(plain); !strings.Contains(text, javaMain+" source: shared objects file (top)") {
				t.Error("the runtime client was not taken from its own archive")
			}
			v.Generation++
			if other := launch(); other.Archive == plain.Archive || len(other.Binds) != len(plain.Binds) {
				t.Error("another generation of the version uses the archive")
			}
		})
	}
}

// TestSweepArchives keeps the archives of versions that are named, and young files.
func TestSweepArchives(t *testing.T) {
	r := &Registry{cfg: Config{Dir: t.TempDir()}}
	if err := r.SweepArchives(nil); err != nil {
		t.Fatalf("without a folder: %v", err)
	}
	dir := filepath.Join(r.cfg.Dir, archivesDir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	kept, gone := javaVersionOf("a.B"), javaVersionOf("a.B")
	gone.Generation = 7
	old := time.Now().Add(-2 * archiveYouth)
	names := []string{archivePrefix(kept) + "1.jsa", archivePrefix(gone) + "1.jsa", ".new-1", ".new-2"}
	for i, name := range names {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if i < 3 {
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.SweepArchives([]*thaw.Version{kept}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false, true} {
		if got := isFile(filepath.Join(dir, names[i])); got != want {
			t.Errorf("%s is there: %v", names[i], got)
		}
	}
}

// TestJavaJarMatchesSource builds the runtime client again and compares it with the one that is checked in.
func TestJavaJarMatchesSource(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bootstrap.jar")
	out, err := exec.CommandContext(context.Background(), "java/build.sh", file).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 3 {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	built, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	checkedIn, err := os.ReadFile("bootstrap/" + javaJar)
	if err != nil || !bytes.Equal(built, checkedIn) {
		t.Errorf("bootstrap/%s is not what java/build.sh makes of java/src: run `make native` (%v)", javaJar, err)
	}
}
