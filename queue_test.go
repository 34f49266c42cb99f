package thaw

import (
	"strings"
	"testing"
)

func TestParseQueueARN(t *testing.T) {
	here := Account{ID: "000000000000", Region: "us-east-1"}
	for arn, want := range map[string]QueueRef{
		"arn:aws:sqs:us-east-1:000000000000:q":                                    {"000000000000", "us-east-1", "q"},
		"arn:aws:sqs:us-east-1:000000000000:A_b-9.fifo":                           {"000000000000", "us-east-1", "A_b-9.fifo"},
		"arn:aws-us-gov:sqs:us-gov-west-1:123456789012:q":                         {"123456789012", "us-gov-west-1", "q"},
		"arn:aws:sqs:us-east-1:000000000000:" + strings.Repeat("q", 80):           {"000000000000", "us-east-1", strings.Repeat("q", 80)},
		"arn:aws:sqs:us-east-1:000000000000:" + strings.Repeat("q", 81):           {},
		"arn:aws:sqs:us-east-1:000000000000:" + strings.Repeat("q", 76) + ".fifo": {},
		"arn:aws:sqs:us-east-1:000000000000:":                                     {},
		"arn:aws:sqs:us-east-1:000000000000:q/r":                                  {},
		"arn:aws:sqs:us-east-1:000000000000:q.other":                              {},
		"arn:aws:sqs:us-east-1:00000000000:q":                                     {},
		"arn:aws:sqs::000000000000:q":                                             {},
		"arn:aws:sns:us-east-1:000000000000:t":                                    {},
		"http://127.0.0.1:4566/000000000000/q":                                    {},
		"q":                                                                       {},
		"":                                                                        {},
	} {
		ref, ok := ParseQueueARN(arn)
		if ref != want || ok != (want != QueueRef{}) {
			t.Errorf("%s: %+v, %v", arn, ref, ok)
		}
		if ok && here.OwnsQueue(ref) && here.QueueARN(ref.Name) != arn {
			t.Errorf("%s became %s", arn, here.QueueARN(ref.Name))
		}
	}
}

func FuzzParseQueueARN(f *testing.F) {
	f.Add("arn:aws:sqs:us-east-1:000000000000:q.fifo")
	f.Add("arn:aws:sqs:us-east-1:000000000000:q\n")
	f.Fuzz(func(t *testing.T, s string) {
		ref, ok := ParseQueueARN(s)
		if !ok {
			return
		}
		if len(ref.Account) != 12 || ref.Region == "" || ref.Name == "" || len(ref.Name) > 80 || strings.ContainsAny(ref.Name, ":/\n ") {
			t.Errorf("%q became %+v", s, ref)
		}
	})
}
