package thaw

import "testing"

func TestCheckTag(t *testing.T) {
	for _, test := range []struct {
		key, value string
		ok         bool
	}{
		{"owner", "anything", true},
		{"thawed", "", true},
		{TagSnapshot, "off", true},
		{TagSnapshot, "on", true},
		{TagSnapshot, "Off", false},
		{TagSnapshot, "", false},
		{TagWarmup, "true", true},
		{TagWarmup, "false", true},
		{TagWarmup, "1", false},
		{TagWarmupEvent, `{"n":1}`, true},
		{TagWarmupEvent, `{n:1}`, false},
		{TagWarmupEvent, "", false},
		{"thaw:snapshots", "off", false},
	} {
		if err := CheckTag(test.key, test.value); (err == nil) != test.ok || err != nil && CodeOf(err) != CodeInvalidParameterValue {
			t.Errorf("%s=%q: %v", test.key, test.value, err)
		}
	}
}
