package sqs

import (
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"thaw"
	"thaw/control/internal/operation"
)

// wantTold fails the test if an error is not one that callers are told.
func wantTold(t *testing.T, err error) {
	t.Helper()
	if told, ok := asError(err); !ok || told.Code == thaw.CodeService {
		t.Errorf("%v", err)
	}
}

// FuzzAttributes sets any attribute to any value: that is refused, or it is kept in a form that stays as it is when it is
// set again.
func FuzzAttributes(f *testing.F) {
	w := newWorld(f)
	w.create(f, "dead", nil)
	for _, x := range attributes {
		f.Add(x.name, x.standard, false)
	}
	f.Add(redrivePolicy, `{"deadLetterTargetArn": "`+w.api.arn("dead")+`", "maxReceiveCount": "1e2"}`, false)
	f.Add(redriveAllowPolicy, `{"redrivePermission": "byQueue", "sourceQueueArns": ["a"]}`, true)
	f.Add(policyAttribute, `{"Statement": []}`, true)
	f.Fuzz(func(t *testing.T, name, v string, fifo bool) {
		var s settings
		if err := w.api.setAttributes(&s, "q", fifo, map[string]string{name: v}, false); err != nil {
			wantTold(t, err)
			return
		}
		var again settings
		if err := w.api.setAttributes(&again, "q", fifo, s.Attributes, false); err != nil || !reflect.DeepEqual(s.options(fifo), again.options(fifo)) || !reflect.DeepEqual(s.Attributes, again.Attributes) {
			t.Errorf("%v became %v: %v", s, again, err)
		}
	})
}

// FuzzMessage sends any message with any attribute.
func FuzzMessage(f *testing.F) {
	w := newWorld(f)
	w.create(f, "q", nil)
	q, _, err := w.api.named("q")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("body", "name", "Number", "-1.5e10", "")
	f.Add("\ufffd", "a.b", "Binary.gif", "", "\x00")
	f.Add("\xff", "AWS.x", "String", "v", "")
	f.Fuzz(func(t *testing.T, body, name, kind, text, binary string) {
		value := types.MessageAttributeValue{DataType: &kind, StringValue: operation.Optional(text)}
		if binary != "" {
			value.BinaryValue = []byte(binary)
		}
		m, meta, err := w.api.message(q, &outgoing{MessageBody: &body, MessageAttributes: map[string]types.MessageAttributeValue{name: value}})
		if err != nil {
			wantTold(t, err)
			return
		}
		if string(m.Body) != body || !utf8.ValidString(body) || len(meta.MD5OfAttributes()) != 32 {
			t.Errorf("%q, %v", m.Body, meta)
		}
	})
}

// FuzzQueueURL: any text is the URL of a queue or is refused.
func FuzzQueueURL(f *testing.F) {
	w := newWorld(f)
	w.create(f, "q", nil)
	f.Add(queueURL("q"))
	f.Add("/123456789012/q/")
	f.Add("//123456789012/q")
	f.Add("q")
	f.Fuzz(func(t *testing.T, url string) {
		q, err := w.api.at(t.Context(), &url)
		if err != nil {
			wantTold(t, err)
		} else if q.name != "q" {
			t.Errorf("%q is %q", url, q.name)
		}
	})
}
