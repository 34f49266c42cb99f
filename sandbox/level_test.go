package sandbox

import (
	"testing"

	"thaw"
)

func TestLevelOf(t *testing.T) {
	for message, want := range map[string]level{
		"": levelInfo, "plain": levelInfo, "{": levelInfo, `["level"]`: levelInfo, `{"a":1}`: levelInfo, `{"level":7}`: levelInfo,
		`{"level":"debug"}`: levelDebug, "\t{\"level\": \"DEBUG\", \"x\": {}}": levelDebug, `{"level":"TRACE"}`: levelTrace, `{"level":"WARNING"}`: levelWarn,
		`{"level":"warn"}`: levelWarn, `{"log_level":"ERROR"}`: levelError, `{"level":"CRITICAL"}`: levelFatal, `{"level":"loud"}`: levelInfo,
		`{"x":{"level":"DEBUG"}}`: levelInfo, `{"level":"DEBUG"`: levelInfo,
	} {
		if got := levelOf([]byte(message)); got != want {
			t.Errorf("%s: %d, want %d", message, got, want)
		}
	}
	for _, test := range []struct {
		version *thaw.Version
		want    level
	}{{nil, levelNone}, {&thaw.Version{LogLevel: "ERROR"}, levelNone}, {&thaw.Version{LogFormat: "JSON", LogLevel: "ERROR"}, levelError}, {&thaw.Version{LogFormat: "JSON"}, levelInfo}} {
		if got := leastLevel(test.version); got != test.want {
			t.Errorf("%+v: %d, want %d", test.version, got, test.want)
		}
	}
}

func FuzzLevelOf(f *testing.F) {
	f.Add([]byte(`{"level":"debug"}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		if got := levelOf(message); got < levelTrace || got > levelFatal {
			t.Error(got)
		}
	})
}
