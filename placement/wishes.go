package placement

import (
	"context"
	"time"
)

// builders bounds how many templates and spares are made at the same time in the background.
const builders = 2

// giveWay bounds how long a builder waits for requests' starts to be over. Longer, and a busy node would have no spares,
// which save it the starts.
const (
	giveWay     = time.Second
	giveWayLook = 5 * time.Millisecond
)

// wish asks for a function's template and spares to be made in the background. used is when it was last used: the newest
// come first.
func (p *Placer) wish(function string, used time.Time) {
	p.wishMu.Lock()
	if known, ok := p.wishes[function]; !ok || known.Before(used) {
		p.wishes[function] = used
	}
	p.wishMu.Unlock()
	select {
	case p.wished <- struct{}{}:
	default:
	}
}

// nextWish takes the wish of the function that was used last.
func (p *Placer) nextWish() (function string, used time.Time, ok bool) {
	p.wishMu.Lock()
	defer p.wishMu.Unlock()
	for name, at := range p.wishes {
		if !ok || at.After(used) {
			function, used, ok = name, at, true
		}
	}
	delete(p.wishes, function)
	return function, used, ok
}

// grant makes what was wished for, until ctx ends.
func (p *Placer) grant(ctx context.Context) {
	for {
		p.letRequestsPass(ctx)
		function, used, ok := p.nextWish()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-p.wished:
				// One token may stand for several wishes: pass it on, until there are none left.
				if function, used, ok = p.nextWish(); !ok {
					continue
				}
				select {
				case p.wished <- struct{}{}:
				default:
				}
			}
		}
		if ctx.Err() != nil {
			return
		}
		p.warmUp(ctx, function, used)
	}
}

// letRequestsPass waits while environments are made that requests wait for.
func (p *Placer) letRequestsPass(ctx context.Context) {
	if p.urgent.Load() == 0 {
		return
	}
	limit := time.NewTimer(giveWay)
	defer limit.Stop()
	look := time.NewTicker(giveWayLook)
	defer look.Stop()
	for p.urgent.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		case <-look.C:
		}
	}
}
