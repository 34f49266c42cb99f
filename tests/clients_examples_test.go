package tests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw/tests/harness"
)

// TestExamples deploys the examples as `make examples` built them, with what `thaw deploy` guesses, and asks for what only
// their third-party packages can answer.
func TestExamples(t *testing.T) {
	root := filepath.Join(harness.Root(), "bin", "examples")
	if _, err := os.Stat(filepath.Join(root, "go-lambda", "bootstrap")); err != nil {
		if _, text, err := run(t, nil, "", filepath.Join(harness.Root(), "scripts", "examples.sh")); err != nil {
			t.Fatalf("scripts/examples.sh: %v\n%s", err, text)
		}
	}
	p := harness.Start(t, harness.Options{Config: network})
	for _, example := range []struct {
		name, event string
		holds       func(answer map[string]any) bool
	}{
		{"python-boto3", `{"bucket": "cups", "key": "tea pot.txt"}`, func(answer map[string]any) bool {
			url, _ := answer["url"].(string)
			return strings.HasPrefix(url, "https://cups.s3.amazonaws.com/tea%20pot.txt?") && strings.Contains(url, "Signature=") && answer["boto3"] != ""
		}},
		{"node-npm", `{"customer": "Ana", "items": [{"name": "cup", "price": 4.5}, {"name": "pot", "price": 12}]}`, func(answer map[string]any) bool {
			return answer["accepted"] == true && answer["customer"] == "Ana" && answer["total"] == 16.5
		}},
		{"node-npm", `{"items": [{"name": "cup", "price": -1}]}`, func(answer map[string]any) bool {
			problems, _ := answer["problems"].([]any)
			if answer["accepted"] != false || len(problems) != 1 {
				return false
			}
			problem, _ := problems[0].(string)
			return strings.HasPrefix(problem, "items.0.price: ")
		}},
		{"go-lambda", `{"deep": [{"ü": null}]}`, func(answer map[string]any) bool { return len(answer) == 1 && answer["deep"] != nil }},
	} {
		t.Run(example.name, func(t *testing.T) {
			_, text, err := run(t, p.Env(), "", harness.Binary(t), "deploy", filepath.Join(root, example.name), "--memory", "512", "--timeout", "30")
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			for range 2 { // cold, warm
				payload := harness.MustInvoke(t, p.Lambda(), example.name, example.event)
				var answer map[string]any
				if err := json.Unmarshal([]byte(payload), &answer); err != nil || !example.holds(answer) {
					t.Errorf("%s answers %s", example.event, payload)
				}
			}
			c, err := p.Lambda().GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &example.name})
			if err != nil || *c.MemorySize != 512 || *c.Timeout != 30 {
				t.Errorf("%+v %v", c, err)
			}
		})
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}
