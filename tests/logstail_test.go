package tests

import (
	"context"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"thaw/tests/harness"
)

// tailingCLI is an AWS CLI that has `logs tail`, as those of version 2 do: the first in PATH, or Debian's.
func tailingCLI(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"aws", "/usr/bin/aws", "/usr/local/bin/aws"} {
		program, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if out, errText, err := run(t, nil, "", program, "--version"); err == nil && strings.HasPrefix(out+errText, "aws-cli/2") {
			return program
		}
	}
	t.Skip("there is no AWS CLI of version 2 (Debian 12: apt-get install awscli)")
	return ""
}

// TestTailFollows has the AWS CLI follow a function's log while the function is invoked.
func TestTailFollows(t *testing.T) {
	t.Parallel()
	program := tailingCLI(t)
	s := startStage(t)
	s.python(t, "followed", "def handler(e, c): print('number', e)\n", deployed{})
	s.invoke(t, "followed", "0")

	ctx, stop := context.WithCancel(t.Context())
	cmd, _, errText := command(ctx, t, s.Env(), program, "--endpoint-url", s.URL, "logs", "tail", "/aws/lambda/followed", "--follow", "--format", "short")
	printed := &harness.Output{}
	cmd.Stdout = printed
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Kill() }, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s%s", printed, errText)
		}
	})
	number := regexp.MustCompile(`(?m) number (\d+)$`)
	for n := range 3 {
		if n > 0 {
			s.invoke(t, "followed", strconv.Itoa(n))
		}
		harness.Eventually(t, "the line is followed", func() bool {
			var got []string
			for _, m := range number.FindAllStringSubmatch(printed.String(), -1) {
				got = append(got, m[1])
			}
			if !slices.Equal(got, []string{"0", "1", "2"}[:min(len(got), 3)]) {
				t.Fatalf("printed were the numbers %v", got)
			}
			return len(got) == n+1
		})
	}
}
