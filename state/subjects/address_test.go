package subjects

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]Address{
		"nats://nats:4222/orders.new":  {Server: "nats://nats:4222", Subject: "orders.new", Retry: time.Second},
		"tls://nats/orders.*.eu.>":     {Server: "tls://nats", Subject: "orders.*.eu.>", Retry: time.Second},
		"nats://[::1]:4222/>":          {Server: "nats://[::1]:4222", Subject: ">", Retry: time.Second},
		"nats://n/*.a?stream=S":        {Server: "nats://n", Subject: "*.a", Stream: "S", Retry: time.Second},
		"nats://n/?stream=S":           {Server: "nats://n", Stream: "S", Retry: time.Second},
		"nats://n?stream=S&consumer=C": {Server: "nats://n", Stream: "S", Consumer: "C", Retry: time.Second},
		"nats://n/a?stream=S&max_deliver=3&retry=10s&deliver=new": {
			Server: "nats://n", Subject: "a", Stream: "S", MaxDeliver: 3, Retry: 10 * time.Second, New: true,
		},
	} {
		got, err := ParseAddress(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	for text, want := range map[string]string{
		"":                                  "not the address of a NATS subject",
		"http://n/a":                        "not the address of a NATS subject",
		"nats:///a":                         "not the address of a NATS subject",
		"nats://user:secret@n/a":            "neither a user",
		"nats://n":                          "names no subject",
		"nats://n/a..b":                     "not a subject",
		"nats://n/a.b*":                     "not a subject",
		"nats://n/a.>.b":                    "not a subject",
		"nats://n/a b":                      "not a subject",
		"nats://n/$SYS.>":                   "not a subject",
		"nats://n/a?retry=1s":               "need a stream",
		"nats://n/a?stream=S.T":             "cannot be the name of a stream",
		"nats://n/?stream=":                 "cannot be the name of a stream",
		"nats://n/a?stream=S&stream=T":      "unknown or comes twice",
		"nats://n/a?stream=S&durable=x":     "setting durable",
		"nats://n/a?stream=S&consumer=C":    "its own subject",
		"nats://n/a?stream=S&max_deliver=0": "from 1 to 1000",
		"nats://n/a?stream=S&retry=1h":      "up to 5m",
		"nats://n/a?stream=S&deliver=last":  "all or new",
		"nats://n/a?%zz":                    "cannot be read",
	} {
		if _, err := ParseAddress(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := ParseAddress(text); err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the password shows: %v", text, err)
		}
	}
}

func TestPauseGrowsAndEnds(t *testing.T) {
	a := Address{Retry: time.Second}
	for n, want := range map[uint64]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 10: longestRetry, 1 << 60: longestRetry} {
		if got := a.pause(n); got != want {
			t.Errorf("after %d: %v, not %v", n, got, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("nats://n/a.*.>?stream=S&max_deliver=3&retry=10s&deliver=new")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddress(text)
		if err == nil && (a.Server == "" || a.Subject == "" && a.Stream == "" || a.Retry <= 0 || strings.ContainsAny(a.Subject, " \t\r\n")) {
			t.Errorf("%+v", a)
		}
	})
}
