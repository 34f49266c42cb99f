package tests

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/tests/harness"
)

// TestLifeOfTemplates follows templates and spares through what may happen to them, beside a function whose update hangs:
// its init does not end.
func TestLifeOfTemplates(t *testing.T) {
	s := startForking(t)
	hung := s.updateThatHangs(t)
	t.Run("tags that change", s.changingTags)
	t.Run("bursts", s.bursts)
	t.Run("updates, and requests that take spares", s.updatesBesideSpares)
	t.Run("forks that fail", s.failingForks)
	t.Run("an init that hangs", hung)
}

// standsAs waits until a function's template has a state.
func (s *stage) standsAs(t *testing.T, name, state string) (v standing) {
	t.Helper()
	harness.Eventually(t, "the template of "+name+" is "+state, func() bool {
		v = s.standing(t, name)
		return v.Template.State == state
	})
	return v
}

// changingTags has a function's owner decide about its template after the deployment.
func (s *stage) changingTags(t *testing.T) {
	s.python(t, "tagged", "seen = []\ndef handler(event, context):\n    seen.append(event)\n    return seen\n", deployed{})
	s.settled(t, "tagged")
	s.needTemplate(t, "tagged")
	config, err := s.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("tagged")})
	if err != nil {
		t.Fatal(err)
	}
	spare := func() *answer {
		s.settled(t, "tagged")
		a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/tagged/invocations",
			map[string]string{"X-Thaw-Explain": "true", "X-Thaw-Start": "spare"}, strings.NewReader("7"))
		if err != nil || a.explanation.Kind != "spare" {
			t.Fatalf("%v %+v", err, a)
		}
		return a
	}
	for _, c := range []struct {
		set         map[string]string
		unset       []string
		state, kind string
		seen        string
	}{
		{set: map[string]string{"thaw:snapshot": "off"}, state: "off", kind: "boot", seen: "[7]"},
		{set: map[string]string{"thaw:warmup-event": "5"}, unset: []string{"thaw:snapshot"}, state: "ready", kind: "fork", seen: "[5, 7]"},
		{set: map[string]string{"thaw:warmup": "true"}, unset: []string{"thaw:warmup-event"}, state: "ready", kind: "fork", seen: `[{"warmup": true}, 7]`},
		{unset: []string{"thaw:warmup"}, state: "ready", kind: "fork", seen: "[7]"},
	} {
		if c.unset != nil {
			if _, err := s.client.UntagResource(t.Context(), &lambda.UntagResourceInput{Resource: config.FunctionArn, TagKeys: c.unset}); err != nil {
				t.Fatal(err)
			}
		}
		if c.set != nil {
			if _, err := s.client.TagResource(t.Context(), &lambda.TagResourceInput{Resource: config.FunctionArn, Tags: c.set}); err != nil {
				t.Fatal(err)
			}
		}
		// Building is told as soon as what there was is gone, which is before the next request is read; the tags may be two
		// changes.
		var a *answer
		harness.Eventually(t, fmt.Sprintf("a start is a %s that has seen %s", c.kind, c.seen), func() bool {
			if s.standing(t, "tagged").Template.State != c.state {
				return false
			}
			a, err = s.forced(t.Context(), "tagged", "7")
			return err == nil && a.explanation.Kind == c.kind && a.payload == c.seen
		})
		if a := spare(); a.payload != c.seen {
			t.Errorf("after %v and without %v, a spare has seen %s, want %s", c.set, c.unset, a.payload, c.seen)
		}
	}
}

// bursts sends more requests at once than there are spares.
func (s *stage) bursts(t *testing.T) {
	const burst = 6
	s.python(t, "bursts", "import time\ndef handler(event, context):\n    time.sleep(0.3)\n", deployed{})
	if v := s.settled(t, "bursts"); v.Environments.Wanted != defaultSpares {
		t.Errorf("before it, %d spares are wanted", v.Environments.Wanted)
	}
	var calls sync.WaitGroup
	for range burst {
		calls.Go(func() {
			a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/bursts/invocations", nil, strings.NewReader("{}"))
			if err != nil || a.status != http.StatusOK {
				t.Errorf("%v %+v", err, a)
			}
		})
	}
	calls.Wait()
	v := s.standing(t, "bursts")
	if v.Environments.Wanted <= defaultSpares {
		t.Errorf("after %d requests at once, %d spares are wanted", burst, v.Environments.Wanted)
	}
	want := v.Environments.Wanted
	harness.Eventually(t, "they are there", func() bool { return s.standing(t, "bursts").Environments.Spares >= want })
	cmd, out := s.thaw(t.Context(), t, "get", "bursts")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !regexp.MustCompile(`(?m)^environments: 0 busy, \d+ idle, \d+ spare \(` + strconv.Itoa(want) + ` wanted\), \d+ starting$`).MatchString(out.String()) {
		t.Errorf("thaw get:\n%s", out)
	}
}

// updatesBesideSpares updates a function with a slow init while requests take spares, which are replaced all the time.
func (s *stage) updatesBesideSpares(t *testing.T) {
	source := func(n int) string {
		return fmt.Sprintf("import time\ntime.sleep(0.3)\ndef handler(event, context):\n    return %d\n", n)
	}
	s.python(t, "spared", source(0), deployed{})
	var inForce atomic.Int64
	var over atomic.Bool
	var callers sync.WaitGroup
	kinds := map[string]*atomic.Int64{"warm": {}, "spare": {}, "fork": {}, "boot": {}}
	for range 3 {
		callers.Go(func() {
			for n := 0; !over.Load(); n++ {
				header := map[string]string{"X-Thaw-Explain": "true"}
				if n%20 == 0 { // each makes one environment more, until the next update
					header["X-Thaw-Start"] = "spare"
				}
				since := int(inForce.Load())
				a, err := s.tryCall(t.Context(), http.MethodPost, "/2015-03-31/functions/spared/invocations", header, strings.NewReader("{}"))
				if err != nil {
					t.Error(err)
					return
				}
				if n, err := strconv.Atoi(a.payload); err != nil || n < since {
					t.Errorf("the answer is %d %s after update %d was Successful, a %s", a.status, a.payload, since, a.explanation.Kind)
					return
				}
				kinds[a.explanation.Kind].Add(1)
			}
		})
	}
	for n := 1; n <= 4 && !t.Failed(); n++ {
		out, err := s.client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{
			FunctionName: aws.String("spared"), ZipFile: harness.Zip(t, map[string]string{"f.py": source(n)}),
		})
		if err != nil {
			t.Fatal(err)
		}
		if out.LastUpdateStatus != types.LastUpdateStatusInProgress {
			t.Errorf("at first the update is %s", out.LastUpdateStatus)
		}
		s.awaitUpdate(t, "spared")
		inForce.Store(int64(n))
		if v := s.needTemplate(t, "spared"); v.Template.InitMS < 250 {
			t.Errorf("the update was Successful after an init of %v ms", v.Template.InitMS)
		}
		before := kinds["spare"].Load()
		harness.Eventually(t, "spares of the new code are taken", func() bool { return kinds["spare"].Load() > before+3 || t.Failed() })
	}
	over.Store(true)
	callers.Wait()
	if kinds["spare"].Load() == 0 {
		t.Error("no request took a spare")
	}
	for kind, n := range kinds {
		t.Logf("%d %s", n.Load(), kind)
	}
}

// failingForks has a function that refuses to be restored: no request pays for that for ever.
func (s *stage) failingForks(t *testing.T) {
	s.python(t, "refuses", "from snapshot_restore_py import register_after_restore\ndef restored():\n    raise ValueError('not me')\nregister_after_restore(restored)\n"+
		"def handler(event, context):\n    return True\n", deployed{})
	const reason = `^3 forks in a row failed, the last one: .*not me; it is tried again, attempt [0-9]+ of 10$`
	for range 6 {
		if a, err := s.forced(t.Context(), "refuses", "0"); err != nil || a.payload != "true" || a.explanation.Kind != "boot" {
			t.Fatalf("%v %+v", err, a)
		}
	}
	harness.Eventually(t, "its template is given up, and that is told", func() bool {
		if _, err := s.forced(t.Context(), "refuses", "0"); err != nil {
			t.Fatal(err)
		}
		v := s.standing(t, "refuses")
		return v.Template.State == "failed" && regexp.MustCompile(reason).MatchString(strings.Join(v.Template.Reasons, "\n"))
	})
	if _, err := s.client.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("refuses")}); err != nil {
		t.Fatal(err)
	}
}

// updateThatHangs updates a function to one whose init does not end, and gives what has to come of it: until the platform
// has had enough the update is in progress and the old code answers; then it ends, without a template.
func (s *stage) updateThatHangs(t *testing.T) (check func(*testing.T)) {
	const old = "def handler(event, context):\n    return 'old'\n"
	s.python(t, "hangs", old, deployed{})
	if _, err := s.client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{
		FunctionName: aws.String("hangs"), ZipFile: harness.Zip(t, map[string]string{"f.py": "import time\ntime.sleep(1000)\n" + old}),
	}); err != nil {
		t.Fatal(err)
	}
	inProgress := func(t *testing.T) bool {
		config, err := s.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("hangs")})
		if err != nil {
			t.Fatal(err)
		}
		return config.LastUpdateStatus == types.LastUpdateStatusInProgress
	}
	return func(t *testing.T) {
		waited := 0
		harness.Eventually(t, "the update ends", func() bool {
			if !inProgress(t) {
				return true
			}
			if waited++; waited > 5 { // near its end, the answer could be the new code's
				return false
			}
			if a := s.call(t, http.MethodPost, "/2015-03-31/functions/hangs/invocations", nil, strings.NewReader("{}")); a.payload != `"old"` {
				t.Errorf("during the update the answer is %d %s", a.status, a.payload)
			}
			return false
		})
		if waited == 0 {
			t.Error("the update ended before the others had")
		}
		if v := s.standsAs(t, "hangs", "failed"); len(v.Template.Reasons) != 1 || !strings.Contains(v.Template.Reasons[0], "init failed: ") {
			t.Errorf("its template failed because %q", v.Template.Reasons)
		}
	}
}
