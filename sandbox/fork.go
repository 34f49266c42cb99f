package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"thaw/runtimes"
)

// RestoreTimeout is how long a forked environment may take to come up, after-restore hooks included (AWS: 10 s).
const RestoreTimeout = 10 * time.Second

// BootTemplate boots an environment that others can be forked from once it has been parked. Errors are as for Boot;
// errors.Is tells ErrNoTemplates apart.
func (c *Config) BootTemplate(ctx context.Context, plan *Plan) (*Environment, error) {
	spec := c.spec(plan)
	spec.Template, spec.Args = true, plan.Launch.TemplateArgs
	plan.measure(spec)
	return c.boot(ctx, plan, spec)
}

// Park ends a template's life as an environment: before-snapshot hooks run, and from then on it only forks. hazards says,
// in words for the function's author, why it is not safe to fork; the template is then of no use. A hook's failure is a
// *thaw.FunctionError.
func (e *Environment) Park(ctx context.Context) (hazards []string, err error) {
	template, isTemplate := e.process.(Template)
	parker, canPark := e.conn.(runtimes.Parker)
	if !isTemplate || !canPark {
		return nil, fmt.Errorf("sandbox: %s is no template", e.ID)
	}
	if hazards := e.extensionHazards(); hazards != nil {
		return hazards, nil
	}
	err = parker.Park(ctx)
	e.output.drain("")
	if errors.Is(err, io.EOF) {
		return nil, e.awaitExit()
	}
	if err != nil {
		return nil, err
	}
	if hazards, err = template.Hazards(); err != nil || len(hazards) > 0 {
		return hazards, err
	}
	return nil, template.Park()
}

// Fork makes an environment from a parked template. plan is the new environment's; its Launch and CodeDir are the
// template's. Errors are as for Boot.
func (e *Environment) Fork(ctx context.Context, c *Config, plan *Plan) (*Environment, error) {
	template, ok := e.process.(Template)
	if !ok {
		return nil, fmt.Errorf("sandbox: %s is no template", e.ID)
	}
	child := newEnvironment(plan)
	process, err := template.Fork(ctx, &ForkSpec{
		ID:       plan.ID,
		Env:      runtimes.Environ(plan.Version, c.Account, plan.LogStream, plan.Provisioned, plan.Launch.Env...),
		MemoryMB: plan.Version.MemorySize,
		TmpMB:    plan.Version.TmpSize,
	})
	if err != nil {
		return nil, fmt.Errorf("sandbox: fork %s: %w", plan.ID, err)
	}
	child.Forked, child.ProfileID = true, e.ProfileID
	child.process = process
	child.Timing.Sandboxed = time.Now()
	child.output = newOutput(process.Output(), plan.Log, plan.Version)
	child.conn = runtimes.NewFrames(process.Channel())
	if child, err = child.ready(ctx, c, plan); err != nil {
		return nil, err
	}
	child.InitDuration = child.Timing.Ready.Sub(child.Timing.Begin)
	return child, nil
}
