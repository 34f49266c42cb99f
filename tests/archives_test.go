package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"thaw/tests/harness"
)

// archived is a Java function that answers whether its JVM has its version's class-data archive mapped, and whose init
// ends the JVM where a variable says so.
const archived = `package example;

import java.nio.file.*;

public class Maps {
    static {
        if (System.getenv("EXIT") != null) {
            System.exit(3);
        }
    }

    public boolean handle() throws Exception {
        return new String(Files.readAllBytes(Paths.get("/proc/self/maps"))).contains(" /var/archive.jsa");
    }
}
`

// javaFiles are the classes of archived; the test is skipped where there is no JDK to make them.
func javaFiles(t *testing.T) map[string]string {
	t.Helper()
	compiler, err := exec.LookPath("javac")
	if err != nil {
		t.Skip("this host has no javac")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "Maps.java")
	if err := os.WriteFile(source, []byte(archived), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), compiler, "--release", "11", "-d", dir, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	class, err := os.ReadFile(filepath.Join(dir, "example/Maps.class"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"example/Maps.class": string(class)}
}

// TestClassDataArchive deploys a Java function, whose starts use the archive that its deployment made, after a restart too,
// and made anew when it is gone. One that is damaged, or cannot be made, takes nothing from the function.
func TestClassDataArchive(t *testing.T) {
	files := javaFiles(t)
	data := t.TempDir()
	t.Cleanup(func() { harness.NothingLeft(t, data) })
	start := func() *stage {
		p := harness.Start(t, harness.Options{Config: forkConfig, Data: data})
		return &stage{Platform: p, client: p.Lambda()}
	}
	archives := func() []string {
		found, err := filepath.Glob(filepath.Join(data, "runtimes/archives/*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	answers := func(s *stage, want string) {
		t.Helper()
		if a, err := s.forced(t.Context(), "maps", "{}"); err != nil || a.payload != want || a.explanation.Kind != "boot" {
			t.Errorf("it starts from its archive: %+v, %v, want %s", a, err, want)
		}
	}
	s := start()
	d := deployed{runtime: "java17", handler: "example.Maps::handle", files: files, memory: 256, timeout: 30}
	s.deploy(t, "maps", d)
	found := archives()
	if v := s.standing(t, "maps"); len(found) != 1 || len(v.Template.Reasons) != 1 || !strings.Contains(v.Template.Reasons[0], "its classes come from an archive") {
		t.Fatalf("%v, %q", found, v.Template.Reasons)
	}
	answers(s, "true")

	d.environment = map[string]string{"EXIT": "now"}
	s.deploy(t, "broken", d)
	if v := s.standing(t, "broken"); len(archives()) != 1 || !strings.Contains(strings.Join(v.Template.Reasons, "\n"), "there is no class-data archive: Runtime.ExitError: ") {
		t.Errorf("init ends the JVM: %v, %q", archives(), v.Template.Reasons)
	}
	s.Stop()

	s = start()
	answers(s, "true")
	s.Stop()
	if again := archives(); len(again) != 1 || again[0] != found[0] {
		t.Errorf("after a restart: %v, before %v", again, found)
	}

	if err := os.WriteFile(found[0], []byte("no archive"), 0o600); err != nil { // a JVM refuses it and goes without
		t.Fatal(err)
	}
	s = start()
	answers(s, "false")
	s.Stop()

	if err := os.Remove(found[0]); err != nil {
		t.Fatal(err)
	}
	s = start()
	harness.Eventually(t, "the archive is there again", func() bool { return len(archives()) == 1 })
	harness.Eventually(t, "nothing starts any more", func() bool { return s.standing(t, "maps").Template.State != "building" })
	answers(s, "true")
}
