package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"thaw"
	"thaw/code"
	"thaw/sandbox"
	"thaw/telemetry/exposition"
	"thaw/telemetry/metrics"
	"thaw/telemetry/traces"
)

// config is everything that can be set, from the file given by --config, with the command line on top. thaw.sample.yaml
// is its annotated form; a test holds the two together.
type config struct {
	// Listen is the one address for all services.
	Listen string `yaml:"listen"`
	// Data is the directory that holds everything.
	Data string `yaml:"data"`
	// Account and Region are what ARNs and STS say.
	Account string `yaml:"account"`
	Region  string `yaml:"region"`
	// CodeCache bounds the unpacked packages on this node, bytes.
	CodeCache int64 `yaml:"code_cache"`
	// Fidelity is prompt, or aws: automatic scaling then takes as long as AWS's.
	Fidelity fidelity `yaml:"fidelity"`
	// Durability is process, or fsync: every write waits for the disk then.
	Durability durability `yaml:"durability"`

	Auth         authConfig        `yaml:"auth"`
	Runtimes     runtimesConfig    `yaml:"runtimes"`
	Network      networkConfig     `yaml:"network"`
	Environments environmentConfig `yaml:"environments"`
	Events       eventsConfig      `yaml:"events"`
	Queues       queuesConfig      `yaml:"queues"`
	Schedules    schedulesConfig   `yaml:"schedules"`
	Logs         logsConfig        `yaml:"logs"`
	Invocations  invocationsConfig `yaml:"invocations"`
	Metrics      metricsConfig     `yaml:"metrics"`
	Telemetry    telemetryConfig   `yaml:"telemetry"`
	Traces       tracesConfig      `yaml:"traces"`
}

// fidelity says whether the platform is as slow as AWS where it could be quicker.
type fidelity string

const (
	fidelityPrompt fidelity = "prompt"
	fidelityAWS    fidelity = "aws"
)

// durability says what an acknowledged write survives.
type durability string

const (
	durabilityProcess durability = "process" // the end of the process, however sudden
	durabilityFsync   durability = "fsync"   // a power cut, too
)

type authConfig struct {
	// Required demands SigV4 on a loopback listener too; other listeners always do.
	Required bool `yaml:"required"`
	// AccessKeys maps access key ids to secrets. Empty: one pair is made at the first start and kept in the data
	// directory.
	AccessKeys map[string]string `yaml:"access_keys"`
}

type runtimesConfig struct {
	// Nearest lets python3.9 run on an installed Python 3.11, and so on.
	Nearest bool `yaml:"nearest"`
	// Search lists more directories in which interpreters are looked for.
	Search []string `yaml:"search"`
}

type networkConfig struct {
	// Mode is nat, none or host; empty: nat where possible, else none.
	Mode sandbox.Network `yaml:"mode"`
	// Prefix is cut into the environments' addresses. Not valid: one that nothing on this machine uses, so that
	// several platforms can run beside each other.
	Prefix netip.Prefix `yaml:"prefix"`
	// Pool is how many namespaces are made ahead.
	Pool int `yaml:"pool"`
	// DenyHostPorts are host ports that functions cannot reach.
	DenyHostPorts []uint16 `yaml:"deny_host_ports"`
}

type environmentConfig struct {
	// Max bounds the environments of this node.
	Max int `yaml:"max"`
	// Starters bounds how many are made at the same time.
	Starters int `yaml:"starters"`
	// Ready is how many empty sandboxes wait for their function.
	Ready int `yaml:"ready"`
	// FavorMoves has the kernel move processes between cgroups quickly, on the whole machine.
	FavorMoves bool `yaml:"favor_moves"`
	// Spares is how many environments that have served nothing are kept ready for each version at least; 0: none are made.
	Spares int `yaml:"spares"`
	// MaxVersionSpares is how many a version may have whose requests come in bursts; Spares if that is more.
	MaxVersionSpares int `yaml:"max_version_spares"`
	// MaxSpares bounds them over all functions.
	MaxSpares int `yaml:"max_spares"`
	// Templates bounds the processes that environments are forked from.
	Templates int `yaml:"templates"`
	// Queue is how long a request waits for room on this node before it is refused; 0: not at all.
	Queue time.Duration `yaml:"queue"`
	// Memory bounds what the environments may use together: up to 1, a share of the machine's memory; above, bytes.
	Memory float64 `yaml:"memory"`
	// MaxAge is how long an environment may live; 0: for ever.
	MaxAge time.Duration `yaml:"max_age"`
	// KeepAlive is how long an idle environment is kept.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// FreezeAfter is how long an environment is idle before it is frozen.
	FreezeAfter time.Duration `yaml:"freeze_after"`
	// Concurrency is the account's limit of invocations at the same time.
	Concurrency int `yaml:"concurrency"`
	// ScaleOut is how many more environments one function may get at once and in each 10 s, as on AWS; 0: no bound.
	ScaleOut int `yaml:"scale_out"`
	// InactiveAfter is how long a version is not used before it becomes Inactive; 0: it never does.
	InactiveAfter time.Duration `yaml:"inactive_after"`
}

type eventsConfig struct {
	// RetryWait is how long an asynchronous invocation that failed waits for its second attempt; it waits twice as long for the third.
	RetryWait time.Duration `yaml:"retry_wait"`
	// MaxBackoff bounds the pauses of events that are throttled; the first one is a sixtieth of RetryWait, and each twice the last.
	MaxBackoff time.Duration `yaml:"max_backoff"`
}

type tracesConfig struct {
	// Endpoint is the OTLP/HTTP address of the collector; empty: no traces are made.
	Endpoint string `yaml:"endpoint"`
	// Headers are sent with each request to it.
	Headers map[string]string `yaml:"headers"`
	// Sample is the share of those invocations that is traced whose callers have not decided.
	Sample float64 `yaml:"sample"`
}

type queuesConfig struct {
	// MaxBytes bounds the messages of all queues and the waiting events together; 0: the disk does.
	MaxBytes int64 `yaml:"max_bytes"`
}

type schedulesConfig struct {
	// CatchUp is how late a schedule that was missed may still fire; less than a minute counts as one.
	CatchUp time.Duration `yaml:"catch_up"`
}

type logsConfig struct {
	// MaxBytes and MaxAge bound what is kept of all functions' logs.
	MaxBytes int64         `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
}

type metricsConfig struct {
	// MaxBytes and MaxAge bound what is kept of all metrics.
	MaxBytes int64         `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
	// MaxSeries bounds how many metrics there are.
	MaxSeries int `yaml:"max_series"`
	// MaxFunctions bounds how many functions /metrics names; the others are counted together.
	MaxFunctions int `yaml:"max_functions"`
	// Token is what GET /metrics must bring as Authorization: Bearer where requests must be signed; empty: it must be signed too.
	Token string `yaml:"token"`
}

type invocationsConfig struct {
	// MaxBytes and MaxAge bound what is kept of all invocations' records and init profiles.
	MaxBytes int64         `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
}

type telemetryConfig struct {
	// Invocations has a record kept of every invocation, and metrics and traces made from it.
	Invocations bool `yaml:"invocations"`
	// InitProfile has every init measured: what it imports and connects to.
	InitProfile bool `yaml:"init_profile"`
}

// defaults is the configuration of a start without a file.
func defaults() config {
	return config{
		Listen:  "127.0.0.1:4566",
		Data:    "data",
		Account: "000000000000",
		Region:  "us-east-1",

		Fidelity:   fidelityPrompt,
		Durability: durabilityProcess,

		CodeCache: code.DefaultMaxBytes,
		Network:   networkConfig{Pool: 4},
		Environments: environmentConfig{
			Max: 1000, Starters: 8, Ready: 4, FavorMoves: true, Spares: 2, MaxVersionSpares: 10, MaxSpares: 50, Templates: 100,
			Queue: time.Second, Memory: 0.8, MaxAge: 6 * time.Hour,
			KeepAlive: 10 * time.Minute, FreezeAfter: 100 * time.Millisecond,
			Concurrency: 1000, ScaleOut: 1000, InactiveAfter: 14 * 24 * time.Hour,
		},
		Events:    eventsConfig{RetryWait: time.Minute, MaxBackoff: 5 * time.Minute},
		Schedules: schedulesConfig{CatchUp: 5 * time.Minute},
		Logs:      logsConfig{MaxBytes: 1 << 30, MaxAge: 7 * 24 * time.Hour},

		Invocations: invocationsConfig{MaxBytes: 256 << 20, MaxAge: 7 * 24 * time.Hour},
		Metrics: metricsConfig{
			MaxBytes: metrics.DefaultMaxBytes, MaxAge: metrics.DefaultMaxAge, MaxSeries: metrics.DefaultMaxSeries, MaxFunctions: exposition.DefaultMaxFunctions,
		},
		Telemetry: telemetryConfig{Invocations: true, InitProfile: true},
		Traces:    tracesConfig{Headers: map[string]string{}, Sample: 0.05},
	}
}

// minMemory is what one environment may need that has the least memory that Lambda gives, bytes.
const minMemory = 128 << 20

// minQueues is the least bound of all queues, bytes: some of the largest messages.
const minQueues = 16 << 20

// minMetrics is the least bound of what is kept of metrics, bytes: the store's own log takes some of it.
const minMetrics = 64 << 20

// minInvocations is the least bound of what is kept of invocations, bytes: some hours of a function that is used.
const minInvocations = 1 << 20

// loadConfig reads a file over the defaults. Unknown keys, keys without a value and values of another type are errors
// that name the place.
func loadConfig(path string) (config, error) {
	c := defaults()
	if path == "" {
		return c, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read the configuration: %w", err)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return c, yamlError(path, err)
	}
	var valueless valuelessKeys
	documents := 0
	for _, document := range file.Docs {
		// The decoder would take a document without content for one that sets everything to zero.
		if document.Body == nil || document.Body.Type() == ast.NullType || document.Body.Type() == ast.CommentType {
			continue
		}
		documents++
		ast.Walk(&valueless, document.Body)
	}
	switch {
	case documents == 0:
		return c, nil
	case documents > 1:
		return c, fmt.Errorf("%s: holds %d documents, and only one is read", path, documents)
	case len(valueless) > 0:
		return c, fmt.Errorf("%s: %s: give it a value, or remove the key to have its default", path, strings.Join(valueless, ", "))
	}
	if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
		return c, yamlError(path, err)
	}
	return c, nil
}

// yamlError is on one line: the position is in it, and the file is at hand.
func yamlError(path string, err error) error {
	return fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, false))
}

// valuelessKeys collects the keys that a file names without a value, as when all below one is commented out. They would
// mean zero, not the default.
type valuelessKeys []string

// Visit is for ast.Walk.
func (v *valuelessKeys) Visit(node ast.Node) ast.Visitor {
	if pair, ok := node.(*ast.MappingValueNode); ok && (pair.Value == nil || pair.Value.Type() == ast.NullType) {
		at := pair.Key.GetToken().Position
		*v = append(*v, fmt.Sprintf("[%d:%d] %s has no value", at.Line, at.Column, pair.Key.String()))
	}
	return v
}

var (
	accountPattern = regexp.MustCompile(`^\d{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)
)

// validate checks ranges before anything is touched. Its error names all that is wrong, on one line.
func (c *config) validate() error {
	var problems []string
	bad := func(key string, format string, args ...any) {
		problems = append(problems, key+": "+fmt.Sprintf(format, args...))
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("listen", "%q is not host:port", c.Listen)
	}
	if c.Data == "" {
		bad("data", "names no directory")
	}
	if !accountPattern.MatchString(c.Account) {
		bad("account", "%q is not 12 digits", c.Account)
	}
	if !regionPattern.MatchString(c.Region) {
		bad("region", "%q is not a region such as us-east-1", c.Region)
	}
	if c.Fidelity != fidelityPrompt && c.Fidelity != fidelityAWS {
		bad("fidelity", "%q is neither prompt nor aws", c.Fidelity)
	}
	if c.Durability != durabilityProcess && c.Durability != durabilityFsync {
		bad("durability", "%q is neither process nor fsync", c.Durability)
	}
	switch c.Network.Mode {
	case "", sandbox.NetworkNAT, sandbox.NetworkNone, sandbox.NetworkHost:
	default:
		bad("network.mode", "%q is none of nat, none, host", c.Network.Mode)
	}
	if p := c.Network.Prefix; p.IsValid() && (!p.Addr().Is4() || p.Bits() < 16 || p.Bits() > 24) {
		bad("network.prefix", "%s is not an IPv4 prefix of /16 to /24", p)
	}
	within := func(key string, value, low, high int) {
		if value < low || value > high {
			bad(key, "%d is not between %d and %d", value, low, high)
		}
	}
	within("network.pool", c.Network.Pool, 0, 256)
	within("environments.max", c.Environments.Max, 1, 100_000)
	within("environments.starters", c.Environments.Starters, 1, 256)
	within("environments.ready", c.Environments.Ready, 0, 256)
	within("environments.spares", c.Environments.Spares, 0, 100)
	within("environments.max_version_spares", c.Environments.MaxVersionSpares, 0, 1000)
	within("environments.max_spares", c.Environments.MaxSpares, 0, 10_000)
	within("environments.templates", c.Environments.Templates, 0, 10_000)
	within("environments.concurrency", c.Environments.Concurrency, 1, 1_000_000)
	within("environments.scale_out", c.Environments.ScaleOut, 0, 1_000_000)
	if d := c.Environments.InactiveAfter; d != 0 && d < time.Second {
		bad("environments.inactive_after", "%v is neither 0 nor at least 1s", d)
	}
	if c.Environments.KeepAlive < time.Second {
		bad("environments.keep_alive", "%v is less than 1s", c.Environments.KeepAlive)
	}
	if q := c.Environments.Queue; q < 0 || q > time.Minute {
		bad("environments.queue", "%v is not between 0s and 1m", q)
	}
	if m := c.Environments.Memory; !(m > 0 && m <= 1) && m < minMemory {
		bad("environments.memory", "%v is neither a share of the machine's memory, above 0 and at most 1, nor %d bytes or more", m, int64(minMemory))
	}
	if a := c.Environments.MaxAge; a != 0 && a < time.Minute {
		bad("environments.max_age", "%v is less than 1m, and not 0", a)
	}
	if c.Environments.FreezeAfter < 0 {
		bad("environments.freeze_after", "%v is negative", c.Environments.FreezeAfter)
	}
	if c.CodeCache < thaw.MaxUnzipped {
		bad("code_cache", "%d is less than one function may need, %d", c.CodeCache, thaw.MaxUnzipped)
	}
	if w := c.Events.RetryWait; w < time.Millisecond || w > time.Hour {
		bad("events.retry_wait", "%v is not between 1ms and 1h", w)
	}
	if b := c.Events.MaxBackoff; b < time.Millisecond || b > 6*time.Hour {
		bad("events.max_backoff", "%v is not between 1ms and 6h", b)
	}
	if b := c.Queues.MaxBytes; b != 0 && b < minQueues {
		bad("queues.max_bytes", "%d is neither 0 nor at least %d", b, minQueues)
	}
	if u := c.Schedules.CatchUp; u < 0 || u > 7*24*time.Hour {
		bad("schedules.catch_up", "%v is not between 0s and 168h", u)
	}
	if c.Logs.MaxBytes < 1<<20 {
		bad("logs.max_bytes", "%d is less than 1048576", c.Logs.MaxBytes)
	}
	if c.Logs.MaxAge < time.Minute {
		bad("logs.max_age", "%v is less than 1m", c.Logs.MaxAge)
	}
	if c.Metrics.MaxBytes < minMetrics {
		bad("metrics.max_bytes", "%d is less than %d", c.Metrics.MaxBytes, minMetrics)
	}
	if a := c.Metrics.MaxAge; a < 24*time.Hour || a > 456*24*time.Hour {
		bad("metrics.max_age", "%v is not between 24h and 10944h, which is 15 months", a)
	}
	if c.Metrics.MaxSeries < 100 {
		bad("metrics.max_series", "%d is less than 100", c.Metrics.MaxSeries)
	}
	if c.Metrics.MaxFunctions < 0 {
		bad("metrics.max_functions", "%d is less than 0", c.Metrics.MaxFunctions)
	}
	if c.Invocations.MaxBytes < minInvocations {
		bad("invocations.max_bytes", "%d is less than %d", c.Invocations.MaxBytes, minInvocations)
	}
	if e := c.Traces.Endpoint; e != "" {
		if _, err := traces.New(traces.Config{Endpoint: e, Headers: c.Traces.Headers}); err != nil {
			bad("traces", "%v", err)
		}
	}
	if c.Traces.Endpoint != "" && !c.Telemetry.Invocations {
		bad("traces.endpoint", "traces are made from the records of invocations; set telemetry.invocations to true as well")
	}
	if c.Traces.Sample < 0 || c.Traces.Sample > 1 {
		bad("traces.sample", "%v is not between 0 and 1", c.Traces.Sample)
	}
	if c.Invocations.MaxAge < time.Minute {
		bad("invocations.max_age", "%v is less than 1m", c.Invocations.MaxAge)
	}
	for id, secret := range c.Auth.AccessKeys {
		if len(id) < 16 || len(secret) < 16 {
			bad("auth.access_keys", "the key %q or its secret has fewer than 16 characters", id)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}

// loopback reports whether the listener is reachable from this machine only.
func (c *config) loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// authenticated reports whether requests must be signed.
func (c *config) authenticated() bool { return c.Auth.Required || !c.loopback() }
