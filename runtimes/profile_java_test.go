package runtimes

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// TestJavaProfileTooLong: packages with names so long that the profile cannot be told fail no init.
func TestJavaProfileTooLong(t *testing.T) {
	classes := needClasses(t)
	in := javaInterpreters(t)[0]
	v := javaVersionOf("example.Loads::echo")
	l := launchJavaFor(t, in, v)
	l.Args = append(slices.Clone(l.Args), l.ProfileArgs...)
	task := javaTask(t, l, classes[0])
	var names []string
	for i := range MaxModules {
		names = append(names, fmt.Sprintf("p%d.%s.C", i, strings.Repeat("包", 280)))
	}
	addClasses(t, task, names)
	c := startRuntime(t, l, v, task)
	if err := c.conn.WaitInit(testContext(t)); err != nil {
		t.Fatalf("%v: %q", err, c.output.all())
	}
	if told := c.conn.(Profiler).TakeProfile(); len(told) != 0 {
		t.Errorf("%d bytes were told", len(told))
	}
}

// addClasses puts a jar with empty classes into a folder of code, and has example.Loads load them.
func addClasses(t testing.TB, task string, names []string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(task, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(task, "lib", "many.jar"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	jar := zip.NewWriter(file)
	for _, name := range names {
		path := strings.ReplaceAll(name, ".", "/")
		w, err := jar.Create(path + ".class")
		if err == nil {
			_, err = w.Write(emptyClass(path))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := jar.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(task, "loads.txt"), []byte(strings.Join(names, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// emptyClass is the class file of a public class without members, for Java 8 and later (The Java Virtual Machine Specification,
// chapter 4).
func emptyClass(path string) []byte {
	const utf8, class = 1, 7
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(append(b, utf8), uint16(len(s))), s...)
	}
	b := []byte{0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52, 0, 5}
	b = append(text(b, path), class, 0, 1)
	b = append(text(b, "java/lang/Object"), class, 0, 3)
	return append(b, 0, 0x21, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0)
}
