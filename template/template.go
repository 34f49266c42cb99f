// Package template makes the processes that environments are forked from: one per function version, booted once,
// initialised, optionally warmed up with one event, checked, and parked. A version whose initialised process cannot be
// forked safely has none, and the reason is kept in words.
//
//	building ──▶ ready ──▶ closed
//	    │
//	    └──▶ off · unsupported · unsafe · failed      (no template; environments are booted)
//
// It neither decides when a template is wanted nor when it has to make room: placement does.
package template

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"thaw"
	"thaw/runtimes"
	"thaw/runtimes/extensions"
	"thaw/sandbox"
)

// State says whether a version has a template.
type State string

// States of a version's template.
const (
	StateBuilding    State = "building"
	StateReady       State = "ready"
	StateOff         State = "off"         // by tag
	StateUnsupported State = "unsupported" // the runtime cannot be forked, or this machine cannot
	StateUnsafe      State = "unsafe"      // what init left behind cannot be shared by forks
	StateFailed      State = "failed"      // init, a hook, the warm-up or its forks failed
	StateEvicted     State = "evicted"     // it made room: for memory, or for templates used more recently
)

// Report is what users are told about a version's template.
type Report struct {
	State   State    `json:"state"`
	Reasons []string `json:"reasons,omitempty"` // why there is none, each a sentence without its full stop
	// InitMS is what runtime and init took, milliseconds: what every fork saves.
	InitMS float64 `json:"init_ms,omitempty"`
}

// Template is a parked process. Its methods may be called from several goroutines.
type Template struct {
	cfg    *sandbox.Config
	env    *sandbox.Environment
	launch *runtimes.Launch
	dir    string
}

// initLimit bounds the init of a template. With SnapStart it is AWS's bound for a snapshot's. Without, a deployment does not wait for an init that takes longer than this: such a function is
// initialised by its first invocation, as on AWS.
func initLimit(v *thaw.Version) time.Duration {
	if v.SnapStarted() {
		return sandbox.AheadLimit(v)
	}
	return 3 * sandbox.InitTimeout
}

// Settings are what a function's tags decide about its template. Templates of equal settings are interchangeable.
type Settings struct {
	Off    bool
	Warmup string // the event; empty: none
	// Unmeasured: init is not to be measured.
	Unmeasured bool
}

// SettingsOf reads a function's tags.
func SettingsOf(tags map[string]string) Settings {
	s := Settings{
		Off: tags[thaw.TagSnapshot] == "off", Warmup: tags[thaw.TagWarmupEvent],
		Unmeasured: tags[thaw.TagInitProfile] == "off",
	}
	if s.Warmup == "" && tags[thaw.TagWarmup] == "true" {
		s.Warmup = `{"warmup":true}`
	}
	return s
}

// event is what the warm-up is invoked with, nil if there is none.
func (s Settings) event() []byte {
	if s.Warmup == "" {
		return nil
	}
	return []byte(s.Warmup)
}

// Build makes a version's template after plan, whose log takes what init writes. It returns nil and the reason when there
// can be none; an error only when ctx has ended or the platform failed.
func Build(ctx context.Context, cfg *sandbox.Config, plan *sandbox.Plan, arn string, settings Settings) (*Template, Report, error) {
	t, report, err := build(ctx, cfg, plan, arn, settings)
	for i := range report.Reasons { // they name threads, files and extensions as the function does
		report.Reasons[i] = plain(report.Reasons[i])
	}
	return t, report, err
}

func build(ctx context.Context, cfg *sandbox.Config, plan *sandbox.Plan, arn string, settings Settings) (*Template, Report, error) {
	switch {
	case settings.Off:
		return nil, Report{State: StateOff, Reasons: []string{"the tag " + thaw.TagSnapshot + " is off"}}, nil
	case plan.Launch.Wrapper != "":
		return nil, Report{State: StateUnsafe, Reasons: []string{"what " + plan.Launch.Wrapper + " (AWS_LAMBDA_EXEC_WRAPPER) sets when it starts the runtime would be lost in a fork"}}, nil
	case plan.Launch.TemplateArgs == nil:
		return nil, Report{State: StateUnsupported, Reasons: []string{"the runtime " + plan.Version.Runtime + " cannot be forked"}}, nil
	case len(plan.Launch.Extensions) > 0:
		return nil, Report{State: StateUnsafe, Reasons: []string{extensions.Hazard(plan.Launch.Extensions)}}, nil
	}
	bounded := *plan
	bounded.InitLimit = initLimit(plan.Version)
	env, err := cfg.BootTemplate(ctx, &bounded)
	if err != nil {
		return none(ctx, StateFailed, "init failed", err)
	}
	report := Report{State: StateReady, InitMS: float64(env.InitDuration.Microseconds()) / 1000}
	if event := settings.event(); event != nil {
		if err := warmUp(ctx, env, arn, event); err != nil {
			env.Close() //nolint:errcheck // told by its driver
			return none(ctx, StateFailed, "the warm-up invocation failed", err)
		}
	}
	hazards, err := env.Park(ctx)
	switch {
	case err != nil:
		env.Close() //nolint:errcheck // as above
		return none(ctx, StateFailed, "it could not be parked", err)
	case len(hazards) > 0:
		env.Close() //nolint:errcheck // as above
		return nil, Report{State: StateUnsafe, Reasons: hazards, InitMS: report.InitMS}, nil
	}
	return &Template{cfg: cfg, env: env, launch: plan.Launch, dir: plan.CodeDir}, report, nil
}

// none explains a template that could not be made. What is neither the function's fault nor the machine's lack is the
// platform's error.
func none(ctx context.Context, state State, what string, err error) (*Template, Report, error) {
	if ctx.Err() != nil {
		return nil, Report{}, ctx.Err()
	}
	if errors.Is(err, sandbox.ErrNoTemplates) {
		return nil, Report{State: StateUnsupported, Reasons: []string{err.Error()}}, nil
	}
	report := Report{State: state, Reasons: []string{Explain(what, err)}}
	if _, ok := errors.AsType[*thaw.FunctionError](err); ok {
		err = nil
	}
	return nil, report, err
}

// Explain says what failed and why, in one sentence without its full stop.
func Explain(what string, err error) string {
	if failure, ok := errors.AsType[*thaw.FunctionError](err); ok {
		return what + ": " + plain(sentence(failure))
	}
	return what + ": " + err.Error()
}

// maxReason bounds what a function says of itself in a reason, bytes.
const maxReason = 1000

// plain is a text of a function's on one line, without what a terminal would obey, and not longer than anybody reads.
func plain(text string) string {
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// sentence is a function's failure on one line.
func sentence(f *thaw.FunctionError) string {
	var told struct {
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal(f.Payload, &told) == nil && told.Message != "" {
		return f.Type + ": " + told.Message
	}
	if len(f.Payload) > 0 {
		return f.Type + ": " + string(f.Payload)
	}
	return f.Type
}

// warmUp has the function serve one event.
func warmUp(ctx context.Context, env *sandbox.Environment, arn string, event []byte) error {
	deadline := time.Now().Add(time.Duration(env.Version.Timeout) * time.Second)
	_, err := env.Invoke(ctx, &runtimes.Event{
		RequestID: uuid.NewString(), DeadlineMS: deadline.UnixMilli(), FunctionARN: arn, Payload: event,
	}, deadline)
	return err
}

// Fork makes an environment. Of plan, what the template decides is filled in.
func (t *Template) Fork(ctx context.Context, plan *sandbox.Plan) (*sandbox.Environment, error) {
	whole := *plan
	whole.Launch, whole.CodeDir, whole.InitLimit = t.launch, t.dir, sandbox.RestoreTimeout
	return t.env.Fork(ctx, t.cfg, &whole)
}

// RuntimeVersion is what INIT_START showed of the template's runtime.
func (t *Template) RuntimeVersion() string { return t.launch.Version }

// Usable reports whether the process still lives.
func (t *Template) Usable() bool { return t.env.Usable() }

// Close ends the template. Environments forked from it go on.
func (t *Template) Close() error { return t.env.Close() }
