package tests

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"thaw/tests/harness"
)

// network keeps these platforms apart from others on this machine, which have the default range. Tests with it are not parallel to
// each other.
const network = "network:\n  prefix: 10.224.0.0/20\n"

// cold has each first invocation booted while it waits, as AWS does, so that its log shows it.
const cold = "environments:\n  spares: 0\n  templates: 0\n"

// commandLimit ends a client that hangs.
const commandLimit = 2 * time.Minute

// run runs a client's program.
func run(t *testing.T, env []string, in, name string, args ...string) (out, errText string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd, stdout, stderr := command(ctx, t, env, name, args...)
	cmd.Stdin = strings.NewReader(in)
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// command is a program that sees env, but none of this machine's AWS settings, and what it will print.
func command(ctx context.Context, t *testing.T, env []string, name string, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	cmd = exec.CommandContext(ctx, name, args...)
	cmd.Dir = harness.Root()
	for _, set := range os.Environ() {
		if !strings.HasPrefix(set, "AWS_") || strings.HasPrefix(set, "AWS_CA_BUNDLE=") {
			cmd.Env = append(cmd.Env, set)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	cmd.Env = append(cmd.Env, "AWS_CONFIG_FILE="+none, "AWS_SHARED_CREDENTIALS_FILE="+none, "AWS_EC2_METADATA_DISABLED=true", "PYTHONDONTWRITEBYTECODE=1")
	cmd.Env = append(cmd.Env, env...)
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdout, stderr, 10*time.Second
	return cmd, stdout, stderr
}

// unmodified is python's command line for a program that expects boto3 to take AWS_ENDPOINT_URL.
func unmodified(t *testing.T, python string, program ...string) []string {
	t.Helper()
	out, text, err := run(t, nil, "", python, "-c", "import boto3; print(boto3.__version__)")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if major, minor := version(t, out); !readsEndpoint("boto3", major, minor) {
		return append([]string{clientFile("python/with_endpoint.py")}, program...)
	}
	return program
}

// clientFile is the path of a file of tests/clients.
func clientFile(name string) string { return filepath.Join(harness.Root(), "tests", "clients", name) }

// findPython is a python3 with boto3: the first in PATH, or Debian's.
func findPython(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if _, _, err := run(t, nil, "", name, "-c", "import boto3"); err == nil {
			return name
		}
	}
	t.Skip("there is no python3 with boto3: scripts/setup.sh test installs it")
	return ""
}

// readsEndpoint reports whether a client of this version takes AWS_ENDPOINT_URL. The CLI has its own numbers; 1.26.27, which
// Debian 12 has, is boto3's.
func readsEndpoint(program string, major, minor int) bool {
	switch {
	case program == "aws-cli" && major == 1:
		return minor >= 29
	case program == "aws-cli":
		return major > 2 || minor >= 13
	}
	return major > 1 || minor >= 28
}

func version(t *testing.T, text string) (major, minor int) {
	t.Helper()
	m := regexp.MustCompile(`(\d+)\.(\d+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no version in %q", text)
	}
	major, _ = strconv.Atoi(m[1])
	minor, _ = strconv.Atoi(m[2])
	return major, minor
}

// awsDir is a directory with a program `aws` that takes AWS_ENDPOINT_URL. For an AWS CLI that is too old, which Debian 12's
// is, that program does what the README tells its readers.
func awsDir(t *testing.T) string {
	t.Helper()
	aws, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the AWS CLI is not installed: scripts/setup.sh test installs it")
	}
	out, errText, err := run(t, nil, "", aws, "--version")
	if err != nil {
		t.Fatalf("%v\n%s", err, errText)
	}
	if major, minor := version(t, out+errText); readsEndpoint("aws-cli", major, minor) {
		return filepath.Dir(aws)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' --endpoint-url \"$AWS_ENDPOINT_URL\" \"$@\"\n", aws)
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// installNode brings what package-lock.json names, once, and gives the path of node.
func installNode(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: scripts/setup.sh test installs it")
	}
	installed := clientFile("node/node_modules/.installed")
	lock := readFile(t, clientFile("node/package-lock.json"))
	if have, err := os.ReadFile(installed); err == nil && bytes.Equal(have, lock) {
		return node
	}
	_, errText, err := run(t, nil, "", "npm", "--prefix", clientFile("node"), "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	if err != nil {
		t.Fatalf("npm ci: %v\n%s", err, errText)
	}
	if err := os.WriteFile(installed, lock, 0o600); err != nil {
		t.Fatal(err)
	}
	return node
}

// vendor adds a directory's files to a package, below the name to.
func vendor(t *testing.T, files map[string]string, dir, to string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".pyc") {
			return err
		}
		below, err := filepath.Rel(dir, path)
		files[filepath.Join(to, below)] = string(readFile(t, path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// writeZip packs files and gives the package's path.
func writeZip(t *testing.T, files map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "package.zip")
	if err := os.WriteFile(path, harness.Zip(t, files), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
