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

// readmeSession runs the README's session in a language as it is printed, and gives what it printed. Only bin/thaw is a
// stand-in: it adds the address and the network of this test to `thaw up`.
func readmeSession(t *testing.T, language string) string {
	t.Helper()
	aws := awsDir(t)
	dir, address := t.TempDir(), harness.FreeAddress(t)
	config := filepath.Join(t.TempDir(), "thaw.yaml")
	standIn := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = up ]; then set -- \"$@\" --listen %s --config '%s'; fi\nexec '%s' \"$@\"\n", address, config, harness.Binary(t))
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(harness.Root(), "examples"), filepath.Join(dir, "examples")); err != nil {
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
	cmd, out, text := command(ctx, t, env, "bash", "-euo", "pipefail", "-c", readmeBlock(t, language))
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a platform that a failed session leaves is in this group
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) //nolint:errcheck // it may be empty
	}
	if strings.Contains(text.String(), "level=ERROR") {
		t.Errorf("the platform complains:\n%s", text)
	}
	harness.NothingLeft(t, filepath.Join(dir, "demo"))
	return out.String()
}

// TestReadmeSession runs the first session: from a package to nothing left.
func TestReadmeSession(t *testing.T) {
	out := readmeSession(t, "sh")
	releases := regexp.MustCompile(`\{"release": (\d), "names": \["tea", "milk"\]\}`).FindAllStringSubmatch(out, -1)
	var got []string
	for _, r := range releases {
		got = append(got, r[1])
	}
	if !slices.Equal(got, []string{"1", "2", "2"}) {
		t.Errorf("the answers are of the releases %q:\n%s", got, out)
	}
	if log := regexp.MustCompile(`(?m)^START RequestId: (\S+) Version: \$LATEST\nEND RequestId: (\S+)\nREPORT RequestId: (\S+)\t`).FindStringSubmatch(out); log == nil || log[1] != log[2] || log[2] != log[3] {
		t.Errorf("no log of one invocation:\n%s", out)
	}
}

// TestReadmeCapacity runs the session about versions and capacity, and reads what thaw top shows at its end.
func TestReadmeCapacity(t *testing.T) {
	out := readmeSession(t, "bash")
	for _, want := range []string{
		`(?m)^"[12]"$`, // the version that the alias chose
		`(?m)^account .* of 980 unreserved in use, 20 of 1000 `, // the limits
		`(?m)^python-echo +0/20r .* 3/3 .* p100 .*$`,            // one invocation, on what was there
		`(?m)^ +1 .* 3/3 .* Active$`,                            // all provisioned ones are version 1's
		`(?m)^ +\$LATEST .* - .* Active$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s is not in:\n%s", want, out)
		}
	}
}

// TestReadmeEvents runs the session about queues, asynchronous invocations and schedules.
func TestReadmeEvents(t *testing.T) {
	out := readmeSession(t, "shell")
	for _, want := range []string{
		`(?m)^messages: 1 waiting, 0 in flight, 0 delayed$`,    // the poison message, and it alone
		`(?m)^[0-9a-f-]{36}  sent .*, died in orders\n  moon$`, // looked at where it died
		`(?m)^messages: 2 waiting`,                             // the failure of the asynchronous invocation
		`(?m)^.*sold coffee$`,                                  // what was scheduled
		`(?m)^moved 1 message$`,                                // the failure's record has not died in a queue, and stays
		`(?m)^.*sold moon$`,
		`(?m)^orders +0 +.* orders-dead, after 2 receives$`,
		`(?m)^orders-dead +1 +0 +0 `,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s is not in:\n%s", want, out)
		}
	}
}

// TestReadmeTelemetry runs the session about a slow start.
func TestReadmeTelemetry(t *testing.T) {
	out := readmeSession(t, "zsh")
	for _, want := range []string{
		`(?m)^ 1\. import unittest(\.mock)? took \d+.* ms of init`,
		`(?s)"SampleCount": 1\.0`,
		`(?m)^REPORT RequestId: .*\tInit Duration: [0-9.]+ ms`,
		`(?m)^slow-cold-start\tslow-error-rate\tslow-timeouts$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s is not in:\n%s", want, out)
		}
	}
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
		path, _, _ := strings.Cut(link[1], "#")
		if _, err := os.Stat(filepath.Join(harness.Root(), path)); err != nil {
			t.Error(err)
		}
	}
}
