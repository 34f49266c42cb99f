package main

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// sampleFile is the annotated configuration that is shipped.
var sampleFile = filepath.Join("..", "..", "thaw.sample.yaml")

// comparePrefixes lets cmp look at what has unexported fields.
var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// TestSampleHoldsTheDefaults reads the sample over a configuration in which every value is another one.
func TestSampleHoldsTheDefaults(t *testing.T) {
	c, err := loadConfig(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	// The sample writes out what the defaults leave empty.
	want.Auth.AccessKeys, want.Runtimes.Search, want.Network.DenyHostPorts = map[string]string{}, []string{}, []uint16{}
	if diff := cmp.Diff(want, c, comparePrefixes); diff != "" {
		t.Errorf("- defaults, + sample:\n%s", diff)
	}
	if err := c.validate(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	var sample map[string]any
	if err := yaml.Unmarshal(text, &sample); err != nil {
		t.Fatal(err)
	}
	inSample := map[string]bool{}
	for key, value := range sample {
		section, ok := value.(map[string]any)
		if !ok || key == "access_keys" {
			inSample[key] = true
			continue
		}
		for inner := range section {
			inSample[key+"."+inner] = true
		}
	}
	if diff := cmp.Diff(keysOf(reflect.TypeFor[config](), ""), slices.Sorted(maps.Keys(inSample))); diff != "" {
		t.Errorf("- keys of the program, + keys of the sample:\n%s", diff)
	}
}

// keysOf lists the keys of a configuration struct, sections with their keys.
func keysOf(t reflect.Type, section string) []string {
	var keys []string
	for i := range t.NumField() {
		field := t.Field(i)
		key := field.Tag.Get("yaml")
		if field.Type.Kind() == reflect.Struct && field.Type != reflect.TypeFor[netip.Prefix]() {
			keys = append(keys, keysOf(field.Type, key+".")...)
			continue
		}
		keys = append(keys, section+key)
	}
	slices.Sort(keys)
	return keys
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "thaw.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadConfigIsStrict(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "listne: x\n", `[1:1] unknown field "listne"`},
		{"unknown key in a section", "network:\n  mode: none\n  modes: x\n", `[3:3] unknown field "modes"`},
		{"a key twice", "region: us-east-1\nregion: us-east-2\n", `mapping key "region" already defined`},
		{"text for a number", "environments:\n  max: many\n", "[2:8] cannot unmarshal string"},
		{"text for a truth", "auth:\n  required: perhaps\n", "[2:13] cannot unmarshal string"},
		{"no duration", "environments:\n  keep_alive: long\n", `invalid duration "long"`},
		{"no prefix", "network:\n  prefix: moon\n", "moon"},
		{"no port", "network:\n  deny_host_ports: [70000]\n", "70000"},
		{"a section without content", "network:\n  # mode: nat\n", "[1:1] network has no value"},
		{"a key without a value", "network:\n  pool:\n", "[2:3] pool has no value"},
		{"null", "environments: {ready: ~}\n", "ready has no value"},
		{"a list", "- listen\n", "[1:1]"},
		{"not YAML", "listen: [\n", "[1:"},
		{"two documents", "durability: fsync\n---\ndurability: process\n", "holds 2 documents"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := loadConfig(writeConfig(t, c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, c.want)
			}
		})
	}
	for _, empty := range []string{"", "\n", "# nothing\n", "---\n", "---\n# nothing\n"} {
		c, err := loadConfig(writeConfig(t, empty))
		if err != nil || !cmp.Equal(c, defaults(), comparePrefixes) {
			t.Errorf("%q: %+v %v", empty, c, err)
		}
	}
	c, err := loadConfig(writeConfig(t, "environments:\n  keep_alive: 5s\n"))
	want := defaults()
	want.Environments.KeepAlive = 5 * time.Second
	if err != nil || !cmp.Equal(c, want, comparePrefixes) {
		t.Errorf("one key changes others: %s %v", cmp.Diff(want, c, comparePrefixes), err)
	}
	if _, err := loadConfig(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*config)
		want   string // empty: valid
	}{
		{"defaults", func(*config) {}, ""},
		{"address without a port", func(c *config) { c.Listen = "127.0.0.1" }, "listen: "},
		{"every address", func(c *config) { c.Listen = ":4566" }, ""},
		{"metrics for an hour", func(c *config) { c.Metrics.MaxAge = time.Hour }, "metrics.max_age: "},
		{"metrics for 15 months", func(c *config) { c.Metrics.MaxAge = 456 * 24 * time.Hour }, ""},
		{"little room for metrics", func(c *config) { c.Metrics.MaxBytes = 1 << 20 }, "metrics.max_bytes: "},
		{"few metrics", func(c *config) { c.Metrics.MaxSeries = 10 }, "metrics.max_series: "},
		{"no function by name", func(c *config) { c.Metrics.MaxFunctions = 0 }, ""},
		{"less than no function by name", func(c *config) { c.Metrics.MaxFunctions = -1 }, "metrics.max_functions: "},
		{"no directory", func(c *config) { c.Data = "" }, "data: "},
		{"short account", func(c *config) { c.Account = "1" }, "account: "},
		{"account of letters", func(c *config) { c.Account = "00000000000a" }, "account: "},
		{"region", func(c *config) { c.Region = "moon" }, "region: "},
		{"region with a sector", func(c *config) { c.Region = "us-gov-west-1" }, ""},
		{"fidelity", func(c *config) { c.Fidelity = "slow" }, "fidelity: "},
		{"durability", func(c *config) { c.Durability = "always" }, "durability: "},
		{"fsync", func(c *config) { c.Durability = durabilityFsync }, ""},
		{"mode", func(c *config) { c.Network.Mode = "bridge" }, "network.mode: "},
		{"mode none", func(c *config) { c.Network.Mode = "none" }, ""},
		{"small prefix", func(c *config) { c.Network.Prefix = netip.MustParsePrefix("10.0.0.0/25") }, "network.prefix: "},
		{"large prefix", func(c *config) { c.Network.Prefix = netip.MustParsePrefix("10.0.0.0/15") }, "network.prefix: "},
		{"IPv6 prefix", func(c *config) { c.Network.Prefix = netip.MustParsePrefix("fd00::/16") }, "network.prefix: "},
		{"prefix", func(c *config) { c.Network.Prefix = netip.MustParsePrefix("10.0.0.0/24") }, ""},
		{"pool", func(c *config) { c.Network.Pool = -1 }, "network.pool: "},
		{"no pool", func(c *config) { c.Network.Pool = 0 }, ""},
		{"no environments", func(c *config) { c.Environments.Max = 0 }, "environments.max: "},
		{"no starters", func(c *config) { c.Environments.Starters = 0 }, "environments.starters: "},
		{"ready", func(c *config) { c.Environments.Ready = 257 }, "environments.ready: "},
		{"concurrency", func(c *config) { c.Environments.Concurrency = 0 }, "environments.concurrency: "},
		{"keep alive", func(c *config) { c.Environments.KeepAlive = time.Millisecond }, "environments.keep_alive: "},
		{"freeze after", func(c *config) { c.Environments.FreezeAfter = -1 }, "environments.freeze_after: "},
		{"freeze at once", func(c *config) { c.Environments.FreezeAfter = 0 }, ""},
		{"queue", func(c *config) { c.Environments.Queue = -1 }, "environments.queue: "},
		{"no queue", func(c *config) { c.Environments.Queue = 0 }, ""},
		{"no memory", func(c *config) { c.Environments.Memory = 0 }, "environments.memory: "},
		{"little memory", func(c *config) { c.Environments.Memory = 1000 }, "environments.memory: "},
		{"bytes of memory", func(c *config) { c.Environments.Memory = 1 << 30 }, ""},
		{"max age", func(c *config) { c.Environments.MaxAge = time.Second }, "environments.max_age: "},
		{"no max age", func(c *config) { c.Environments.MaxAge = 0 }, ""},
		{"code cache", func(c *config) { c.CodeCache = 1 << 20 }, "code_cache: "},
		{"no retry wait", func(c *config) { c.Events.RetryWait = 0 }, "events.retry_wait: "},
		{"retry wait", func(c *config) { c.Events.RetryWait = 50 * time.Millisecond }, ""},
		{"no backoff", func(c *config) { c.Events.MaxBackoff = 0 }, "events.max_backoff: "},
		{"long backoff", func(c *config) { c.Events.MaxBackoff = 7 * time.Hour }, "events.max_backoff: "},
		{"small queues", func(c *config) { c.Queues.MaxBytes = 1 << 20 }, "queues.max_bytes: "},
		{"bounded queues", func(c *config) { c.Queues.MaxBytes = 1 << 30 }, ""},
		{"negative catch up", func(c *config) { c.Schedules.CatchUp = -1 }, "schedules.catch_up: "},
		{"no catch up", func(c *config) { c.Schedules.CatchUp = 0 }, ""},
		{"log bytes", func(c *config) { c.Logs.MaxBytes = 1 }, "logs.max_bytes: "},
		{"log age", func(c *config) { c.Logs.MaxAge = time.Second }, "logs.max_age: "},
		{"collector", func(c *config) {
			c.Traces.Endpoint, c.Traces.Headers = "https://c", map[string]string{"Authorization": "Bearer x"}
		}, ""},
		{"collector with a password", func(c *config) { c.Traces.Endpoint = "https://user:secret@c" }, "traces: only a host"},
		{"collector's own header", func(c *config) { c.Traces.Endpoint, c.Traces.Headers = "https://c", map[string]string{"Host": "d"} }, "traces: the header Host"},
		{"short key", func(c *config) { c.Auth.AccessKeys = map[string]string{"AKIA": "0123456789abcdef"} }, "auth.access_keys: "},
		{"short secret", func(c *config) { c.Auth.AccessKeys = map[string]string{"AKIA0123456789abcdef": "x"} }, "auth.access_keys: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaults()
			c.change(&cfg)
			err := cfg.validate()
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestWhoMustSign(t *testing.T) {
	for _, c := range []struct {
		listen   string
		required bool
		want     bool
	}{
		{"127.0.0.1:1", false, false}, {"127.0.0.2:1", false, false}, {"localhost:1", false, false}, {"[::1]:1", false, false},
		{"127.0.0.1:1", true, true}, {"0.0.0.0:1", false, true}, {":1", false, true}, {"[::]:1", false, true},
		{"10.0.0.1:1", false, true}, {"example.com:1", false, true}, {"localhost.example.com:1", false, true}, {"127.0.0.1.example.com:1", false, true},
	} {
		cfg := config{Listen: c.listen, Auth: authConfig{Required: c.required}}
		if got := cfg.authenticated(); got != c.want {
			t.Errorf("%s, required %v: %v", c.listen, c.required, got)
		}
	}
}
