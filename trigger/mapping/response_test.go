package mapping

import (
	"fmt"
	"slices"
	"testing"
)

// The rules are those of "Success and failure conditions" in Lambda's guide to errors of SQS event sources, and answers
// recorded from AWS for the first bad one.
func TestFailures(t *testing.T) {
	messages := []message{{id: "a"}, {id: "b"}, {id: "c"}}
	for _, c := range []struct {
		response string
		want     string // the failed ones, "all", or nothing
	}{
		{``, ``},
		{`null`, ``},
		{` null `, ``},
		{`{}`, ``},
		{`{"statusCode": 200}`, ``},
		{`{"batchItemFailures": null}`, ``},
		{`{"batchItemFailures": []}`, ``},
		{`{"batchItemFailures": [{"itemIdentifier": "b"}]}`, `b`},
		{`{"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "c", "why": 1}, {"itemIdentifier": "b"}]}`, `b c`},
		{`{"batchItemFailures": [{"foo": "notvalid"}]}`, `all`},
		{`{"batchItemFailures": [{"ItemIdentifier": "b"}]}`, `all`},
		{`{"BatchItemFailures": [{"itemIdentifier": "b"}]}`, ``},
		{`{"batchItemFailures": [{"itemIdentifier": ""}]}`, `all`},
		{`{"batchItemFailures": [{"itemIdentifier": null}]}`, `all`},
		{`{"batchItemFailures": [{"itemIdentifier": 7}]}`, `all`},
		{`{"batchItemFailures": [{"itemIdentifier": "z"}]}`, `all`},
		{`{"batchItemFailures": [{"itemIdentifier": "b"}, {}]}`, `all`},
		{`{"batchItemFailures": ["b"]}`, `all`},
		{`{"batchItemFailures": [null]}`, `all`},
		{`{"batchItemFailures": {"itemIdentifier": "b"}}`, `all`},
		{`{"batchItemFailures": "b"}`, `all`},
		{`"ok"`, `all`},
		{`true`, `all`},
		{`[]`, `all`},
		{`{"batchItemFailures": [`, `all`},
	} {
		failed, all := failures([]byte(c.response), messages)
		got := ""
		for i := range messages {
			if id := messages[i].id; failed[id] {
				got += " " + id
			}
		}
		if got = fmt.Sprintf("%.9s", got); len(got) > 0 {
			got = got[1:]
		}
		if all {
			got = "all"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.response, got, c.want)
		}
	}
}

func FuzzFailures(f *testing.F) {
	f.Add([]byte(`{"batchItemFailures":[{"itemIdentifier":"a"}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, response []byte) {
		messages := []message{{id: "a"}, {id: "b"}}
		failed, all := failures(response, messages)
		if all && failed != nil {
			t.Fatal("all and some")
		}
		done, again := split(messages, failed)
		if len(done)+len(again) != 2 || len(again) != len(failed) {
			t.Fatalf("%d done, %d again of %v", len(done), len(again), failed)
		}
	})
}

// The table is that of "Properly filtering Amazon SQS messages" in Lambda's guide.
func TestFilterSeesBodies(t *testing.T) {
	for _, c := range []struct {
		body, pattern string
		want          bool
	}{
		{`hello`, `{"body":["hello"]}`, true},
		{`hello`, `{"body":[{"prefix":"he"}]}`, true},
		{`hello`, `{"body":["bye"]}`, false},
		{`hello`, `{"body":{"a":["hello"]}}`, false},
		{`hello`, `{"body":{"a":[{"exists":false}]}}`, false},
		{`{"a":"hello"}`, `{"body":{"a":["hello"]}}`, true},
		{`{"a":"hello"}`, `{"body":{"a":["bye"]}}`, false},
		{` {"a": {"b": [1, 2]}}`, `{"body":{"a":{"b":[2]}}}`, true},
		{`{"a":"hello"}`, `{"body":[{"prefix":"{"}]}`, false},
		{`["hello"]`, `{"body":["hello"]}`, false},
		{`{"a":`, `{"body":[{"prefix":"{"}]}`, true},
		{`7`, `{"body":["7"]}`, true},
		{`hello`, `{"attributes":{"SenderId":["me"]}}`, true},
		{`{"a":1}`, `{"attributes":{"SenderId":["you"]}}`, false},
		{`{"a":1}`, `{"attributes":{"SenderId":["me"]},"body":{"a":[1]}}`, true},
	} {
		f, err := newFilter([]string{c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		rec := sqsRecord{Body: c.body, Attributes: sqsSystem{Sender: "me"}}
		if got := f.match(&message{body: []byte(c.body), record: rec.json()}); got != c.want {
			t.Errorf("%s matches %s: %v", c.pattern, c.body, got)
		}
	}
	f, err := newFilter([]string{`{"body":["x"]}`, `{"body":{"a":[1]}}`, `{"body":["y"]}`})
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	wanted, dropped := f.sift([]message{{body: []byte("x"), record: (&sqsRecord{Body: "x"}).json()}, {body: []byte("z"), record: (&sqsRecord{Body: "z"}).json()}, {body: []byte("y"), record: (&sqsRecord{Body: "y"}).json()}})
	for i := range wanted {
		kept = append(kept, string(wanted[i].body))
	}
	if !slices.Equal(kept, []string{"x", "y"}) || len(dropped) != 1 {
		t.Errorf("kept %v, dropped %d", kept, len(dropped))
	}
	for _, bad := range []string{``, `"simple string"`, `{"body":"x"}`, `{"body":[{"nonsense":1}]}`, `[]`} {
		if CheckFilter(bad) == nil {
			t.Errorf("filter %s passes", bad)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`{"body":{"a":["x"]}}`, []byte(`{"a":"x"}`))
	f.Add(`{"body":["x"]}`, []byte(`x`))
	f.Fuzz(func(t *testing.T, pattern string, body []byte) {
		filter, err := newFilter([]string{pattern})
		if err != nil {
			return
		}
		m := message{body: body, record: (&sqsRecord{Body: string(body)}).json()}
		filter.match(&m)
	})
}

func FuzzParseQueueARN(f *testing.F) {
	f.Add("arn:aws:sqs:us-east-1:000000000000:orders.fifo")
	f.Fuzz(func(t *testing.T, s string) {
		arn, ok := ParseQueueARN(s)
		if ok && (len(arn.Account) != 12 || arn.Name == "" || arn.Region == "") {
			t.Fatalf("%q: %+v", s, arn)
		}
		source := Source{ARN: s}
		if ok != (source.QueueName() != "") {
			t.Fatalf("%q is named %q", s, source.QueueName())
		}
		_ = CheckEndpoint(s)
	})
}
