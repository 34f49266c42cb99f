package tests

import (
	"testing"

	"thaw/tests/harness"
)

// TestQueueFromJavaScript is a life of a queue through the JavaScript SDK; control/sqs tries the others.
func TestQueueFromJavaScript(t *testing.T) {
	node := installNode(t)
	p := harness.Start(t, harness.Options{})
	if _, text, err := run(t, p.Env(), "", node, clientFile("node/queue.mjs")); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	p.Stop()
	harness.NothingLeft(t, p.Data)
}
