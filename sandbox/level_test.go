package sandbox

import (
	"testing"

	"thaw"
)

func TestLevelOf(t *testing.T) {
	const at = `"timestamp":"2024-11-02T16:51:31.587199Z"`
	for message, want := range map[string]level{
		"": levelInfo, "plain": levelInfo, "{": levelInfo, `["level"]`: levelInfo, `{"a":1}`: levelInfo, `{"level":7,` + at + `}`: levelInfo,
		`{"level":"debug",` + at + `}`: levelDebug, "\t{\"level\": \"DEBUG\", \"x\": {}, " + at + "}": levelDebug, `{"level":"TRACE",` + at + `}`: levelTrace,
		`{"level":"WARNING",` + at + `}`: levelWarn, `{"level":"warn",` + at + `}`: levelWarn, `{"log_level":"ERROR",` + at + `}`: levelError,
		`{"level":"CRITICAL",` + at + `}`: levelFatal, `{"level":"loud",` + at + `}`: levelInfo,
		`{"x":{"level":"DEBUG",` + at + `}}`: levelInfo, `{"level":"DEBUG",` + at: levelInfo,
		// Without a time that AWS can use it is INFO, whatever it says.
		`{"level":"DEBUG"}`: levelInfo, `{"level":"ERROR","timestamp":"yesterday"}`: levelInfo, `{"level":"ERROR","timestamp":1730566291}`: levelInfo,
		`{"level":"ERROR","timestamp":"2024-11-02 16:51:31"}`:  levelInfo,
		`{"level":"ERROR","time":"2024-11-02T16:51:31+01:00"}`: levelError, `{"level":"ERROR","@timestamp":"2024-11-02T16:51:31Z"}`: levelError,
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
	f.Add([]byte(`{"level":"debug","timestamp":"2024-11-02T16:51:31Z"}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		if got := levelOf(message); got < levelTrace || got > levelFatal {
			t.Error(got)
		}
	})
}
