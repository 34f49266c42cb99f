package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"thaw/tests/harness"
)

// readmeBlock is the README's only code block in a language.
func readmeBlock(t *testing.T, language string) string {
	t.Helper()
	text := string(readFile(t, filepath.Join(harness.Root(), "README.md")))
	blocks := regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```\n").FindAllStringSubmatch(text, -1)
	if len(blocks) != 1 {
		t.Fatalf("README.md has %d blocks in %s", len(blocks), language)
	}
	return blocks[0][1]
}

// TestReadmeSession runs the README's session as it is printed. Only bin/thaw is a stand-in: it adds the address and the
// network of this test to `thaw up`.
func TestReadmeSession(t *testing.T) {
	aws := awsDir(t)
	dir, address := t.TempDir(), harness.FreeAddress(t)
	config := filepath.Join(t.TempDir(), "thaw.yaml")
	standIn := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = up ]; then set -- \"$@\" --listen %s --config '%s'; fi\nexec '%s' \"$@\"\n", address, config, harness.Binary(t))
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{config: network, filepath.Join(dir, "bin", "thaw"): standIn} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	env := []string{"THAW_ENDPOINT=http://" + address, "PATH=" + aws + ":" + os.Getenv("PATH"), "NO_PROXY=*"}
	cmd, out, text := command(ctx, t, env, "bash", "-euo", "pipefail", "-c", readmeBlock(t, "sh"))
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a platform that a failed session leaves is in this group
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) //nolint:errcheck // it may be empty
	}
	releases := regexp.MustCompile(`\{"release": (\d), "names": \["tea", "milk"\]\}`).FindAllStringSubmatch(out.String(), -1)
	var got []string
	for _, r := range releases {
		got = append(got, r[1])
	}
	if !slices.Equal(got, []string{"1", "2", "2"}) {
		t.Errorf("the answers are of the releases %q:\n%s", got, out)
	}
	if log := regexp.MustCompile(`(?m)^START RequestId: (\S+) Version: \$LATEST\nEND RequestId: (\S+)\nREPORT RequestId: (\S+)\t`).FindStringSubmatch(out.String()); log == nil || log[1] != log[2] || log[2] != log[3] {
		t.Errorf("no log of one invocation:\n%s", out)
	}
	if strings.Contains(text.String(), "level=ERROR") {
		t.Errorf("the platform complains:\n%s", text)
	}
	harness.NothingLeft(t, filepath.Join(dir, "demo"))
}

// TestReadmeProgram runs the README's program.
func TestReadmeProgram(t *testing.T) {
	python := findPython(t)
	program := filepath.Join(t.TempDir(), "readme.py")
	if err := os.WriteFile(program, []byte(readmeBlock(t, "python")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.Start(t, harness.Options{Config: network})
	harness.Deploy(t, p.Lambda(), &harness.Function{
		Name: "python-echo", Source: string(readFile(t, filepath.Join(harness.Root(), "examples", "python-echo", "app.py"))),
	})
	out, text, err := run(t, p.Env(), "", python, unmodified(t, python, program)...)
	if err != nil || out != "{'n': 1}\n" {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}

// TestReadmeLinks follows the README's links to files of the project.
func TestReadmeLinks(t *testing.T) {
	text := string(readFile(t, filepath.Join(harness.Root(), "README.md")))
	for _, link := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(harness.Root(), link[1])); err != nil {
			t.Error(err)
		}
	}
}
