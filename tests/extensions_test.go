package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/tests/harness"
)

// extensionLayer publishes examples/go-extension as a layer and gives its ARN.
func extensionLayer(t *testing.T, client *lambda.Client) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "go-extension")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", binary, "./examples/go-extension")
	build.Dir = harness.Root()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := client.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{
		LayerName: aws.String("go-extension"),
		Content:   &types.LayerVersionContentInput{ZipFile: harness.Zip(t, map[string]string{"extensions/go-extension+x": string(program)})},
	})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(layer.LayerVersionArn)
}

// A layer with an extension beside functions of several runtimes, from the upload to the last event.
func TestExtensionInALayer(t *testing.T) {
	s := startStage(t)
	client := s.client
	arn := extensionLayer(t, client)
	for name, f := range map[string]harness.Function{
		"python": {Source: "def handler(e, c):\n    print('from the function')\n    return e\n"},
		"node": {Runtime: types.RuntimeNodejs20x, Handler: "index.handler",
			Files: map[string]string{"index.js": "exports.handler = async e => { console.log('from the function'); return e }"}},
	} {
		t.Run(name, func(t *testing.T) {
			f.Name = name
			in := f.Input(t)
			in.Layers = []string{arn}
			if _, err := client.CreateFunction(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			harness.WaitActive(t, client, name)
			for _, event := range []string{"1", "2"} {
				if got := harness.MustInvoke(t, client, name, event); got != event {
					t.Errorf("got %s", got)
				}
			}
			out, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte("3"), LogType: types.LogTypeTail})
			if err != nil || out.FunctionError != nil || !bytes.Equal(out.Payload, []byte("3")) {
				t.Fatal(out, err)
			}
			for _, text := range []string{
				"EXTENSION\tName: go-extension\tState: Ready\tEvents: [INVOKE, SHUTDOWN]", "extension INVOKE ", "telemetry platform.initStart ",
				"telemetry platform.runtimeDone ", "telemetry platform.report ", "telemetry function ",
			} {
				s.awaitEvent(t, name, func(e logEvent) bool { return strings.HasPrefix(e.Message, text) })
			}
			// The environments of an old configuration end.
			if _, err := client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Timeout: aws.Int32(11)}); err != nil {
				t.Fatal(err)
			}
			harness.WaitActive(t, client, name)
			s.awaitEvent(t, name, func(e logEvent) bool { return strings.HasPrefix(e.Message, "extension SHUTDOWN spindown") })
		})
	}
}

// A function whose extension does not start says which, and why.
func TestBrokenExtensionInALayer(t *testing.T) {
	s := startStage(t)
	client := s.client
	layer, err := client.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{
		LayerName: aws.String("broken"),
		Content:   &types.LayerVersionContentInput{ZipFile: harness.Zip(t, map[string]string{"extensions/broken+x": "#!/bin/sh\nexit 7\n"})},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := harness.Function{Name: "f", Source: "def handler(e, c): return e\n"}
	in := f.Input(t)
	in.Layers = []string{aws.ToString(layer.LayerVersionArn)}
	if _, err := client.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	harness.WaitActive(t, client, "f")
	payload, failed, err := harness.Invoke(t.Context(), client, "f", "1")
	if err != nil || !failed || !strings.Contains(payload, `"errorType":"Extension.Crash"`) {
		t.Errorf("%s, %v", payload, err)
	}
}
