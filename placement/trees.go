package placement

import (
	"context"

	"thaw"
	"thaw/runtimes"
	"thaw/runtimes/extensions"
)

// trees are where a version's files are on this node.
type trees struct {
	code string // what its environments have at /var/task
	opt  string // what they have at /opt; empty where the version has no layers
}

// retain keeps a version's trees, there already or not, until release is called.
func (p *Placer) retain(v *thaw.Version) (release func()) {
	code := p.cfg.Packages.Retain(v.Code.SHA256)
	if len(v.Layers) == 0 {
		return code
	}
	layers := p.cfg.Packages.RetainLayers(v.LayerDigests())
	return func() { code(); layers() }
}

// fetch brings a version's code and layers to this node.
func (p *Placer) fetch(ctx context.Context, v *thaw.Version) (t trees, err error) {
	if t.code, err = p.cfg.Packages.Dir(ctx, v.Code.SHA256); err != nil || len(v.Layers) == 0 {
		return t, err
	}
	t.opt, err = p.cfg.Packages.Layers(ctx, v.LayerDigests())
	return t, err
}

// launch says how the version's runtime is started, and its extensions. Errors are those of Launcher, with what it gives then.
func (p *Placer) launch(ctx context.Context, v *thaw.Version, t trees) (*runtimes.Launch, error) {
	l, err := p.cfg.Launcher.Launch(ctx, v, t.code, t.opt)
	if err != nil || t.opt == "" {
		return l, err
	}
	return l, extensions.BindOpt(l, t.opt, p.cfg.Programs)
}
